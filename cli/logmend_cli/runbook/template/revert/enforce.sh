#!/bin/sh
# 100: NAME is stopped again, as it was; 102: leave alone
{
set -e
cd "${LOGMEND_ROOT:-}/"
f=var/lib/logmend/NAME
[ -e $f.state ] || [ -e $f.reverted ] || {
  echo reason=no_previous_state
  exit 102
}
exec 9>$f.lock
timeout 60 flock 9
[ ! -e $f.state ] || {
  echo "mark=$1" >$f.mark
  timeout 60 systemctl stop NAME.service
  mv $f.state $f.reverted
}
echo changed=yes | tee $f.out
exit 100
} </dev/null
