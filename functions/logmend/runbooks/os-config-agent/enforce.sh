#!/bin/sh
# 100: restarted, or well; 102: leave alone
{
set -e
cd "${LOGMEND_ROOT:-}/"
f=var/lib/logmend/os-config-agent
u=google-osconfig-agent.service
w=$1
c='timeout 60 systemctl'
end() { echo $1 | tee $f.out; exit $2; }
umask 022
mkdir -p ${f%/*}
exec 9>$f.lock
timeout 60 flock 9
! grep -q "/$u" proc/self/cgroup || end reason=needs_ssh 102
s=$($c show -p ActiveState $u)
h=
for p in $(grep -ls "/$u" proc/[0-9]*/cgroup); do
  p=${p%/*}
  case =$(cat $p/comm; tr '\0' ' ' <$p/cmdline) in
    =dpkg*) end reason=dpkg_at_work 102 ;;
    =apt-get*\ update\ *) ;;
    *) continue ;;
  esac
  t=$(sed 's/.*) //' proc/uptime $p/stat) || :
  set -- $t
  [ $((${1%.*} - ${22:-${1%.*}00} / 100)) -lt $((@hours@ * 3600)) ] || h=y
done
case $h$s in
  *=failed*) [ -e $f.state ] || echo "$s" >$f.state ;;
  y*) rm -f $f.state $f.reverted ;;
  *) end changed=no 100 ;;
esac
echo mark=$w >$f.mark
[ ! $h ] || $c kill -s KILL $u || :
$c reset-failed $u || :
$c -q restart $u || :
sleep @settle@
end changed=yes 100
} </dev/null
