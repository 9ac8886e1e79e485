#!/bin/sh
# 100: stopped, as it was; 102: leave alone
{
set -e
cd "${LOGMEND_ROOT:-}/"
f=var/lib/logmend/os-config-agent
u=google-osconfig-agent.service
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
! grep -q "/$u" proc/self/cgroup || end 102 reason=needs_ssh
[ -e $f.state ] || end 100 changed=no
for p in $(grep -ls "/$u" proc/[0-9]*/cgroup); do
  case $(cat ${p%/*}/comm) in dpkg*) end 102 reason=dpkg_at_work ;; esac
done
echo "mark=$1" >$f.mark
timeout 100 systemctl -q stop $u
mv $f.state $f.reverted
end 100 changed=yes
} </dev/null
