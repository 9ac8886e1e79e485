#!/bin/sh
# 100: started, or nothing to do
{
set -e
cd "${LOGMEND_ROOT:-}/"
f=var/lib/logmend/google-guest-agent
u=google-guest-agent.service
end() {
  echo "$1" | tee $f.out
  exit 100
}
umask 022
mkdir -p ${f%/*}
exec 9>$f.lock
timeout 60 flock 9
s=$(timeout 9 systemctl show -p LoadState -p ActiveState -p Result $u)
case $s in
  *=masked*) end changed=no ;;
  *=failed*) ;;
  *) end changed=no ;;
esac
[ -e $f.state ] || {
  echo "$s" >$f.new
  mv $f.new $f.state
}
echo "mark=$1" >$f.mark
timeout 9 systemctl reset-failed $u
# What dies again at once is for the second check to see, as is what dies a little later.
timeout 30 systemctl -q start $u || :
sleep @settle@
end changed=yes
} </dev/null
