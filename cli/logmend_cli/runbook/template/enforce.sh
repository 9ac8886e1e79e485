#!/bin/sh
# 100: NAME runs
{
set -e
cd "${LOGMEND_ROOT:-}/"
f=var/lib/logmend/NAME
end() {
  echo "$1" | tee $f.out
  exit 100
}
umask 022
mkdir -p ${f%/*}
exec 9>$f.lock
timeout 60 flock 9
s=$(timeout 9 systemctl show -p ActiveState NAME.service)
case $s in
  *=failed*) ;;
  *) end changed=no ;;
esac
[ -e $f.state ] || {
  echo "$s" >$f.new
  mv $f.new $f.state
}
echo "mark=$1" >$f.mark
timeout 60 systemctl start NAME.service
end changed=yes
} </dev/null
