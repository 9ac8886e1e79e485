#!/bin/sh
# 100: stopped, as it was; 102: leave alone
{
set -e
cd "${LOGMEND_ROOT:-}/"
f=var/lib/logmend/os-config-agent
end() {
  echo "$2" | tee $f.out
  exit "$1"
}
[ -e $f.state ] || [ -e $f.reverted ] || {
  echo reason=no_previous_state
  exit 102
}
umask 022
exec 9>$f.lock
timeout 60 flock 9
[ -e $f.state ] || end 100 changed=no
echo "mark=$1" >$f.mark
timeout 100 systemctl -q stop google-osconfig-agent.service
mv $f.state $f.reverted
end 100 changed=yes
} </dev/null
