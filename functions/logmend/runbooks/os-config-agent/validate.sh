#!/bin/sh
# 100: runs; 101: failed, or its apt-get hangs
{
cd "${LOGMEND_ROOT:-}/" || exit
u=google-osconfig-agent.service
m=169.254.169.254/computeMetadata/v1/instance/id
i=$(timeout 5 curl -q -fsx '' -HMetadata-Flavor:Google $m)
echo "instance_id=${i%%[!0-9]*}"
cat var/lib/logmend/os-config-agent.mark 2>&1
leave() { echo reason=$1; exit 102; }
s=$(timeout 9 systemctl show -p LoadState -p ActiveState $u) || exit 1
echo "$s" | sed 's/A.*=/service=/;s/L.*=/unit=/'
case $s in
  *=masked*) leave masked_by_others ;;
  *=not-found*) leave unit_absent ;;
  *activating*) exit 103 ;;
esac
h=no
for p in $(grep -ls "/$u" proc/[0-9]*/cgroup); do
  p=${p%/*}
  case =$(cat $p/comm; tr '\0' ' ' <$p/cmdline) in
    =dpkg*) leave dpkg_at_work ;;
    =apt-get*\ update\ *) ;;
    *) continue ;;
  esac
  t=$(sed 's/.*) //' proc/uptime $p/stat)
  set -- $t
  [ $((${1%.*} - ${22:-${1%.*}00} / 100)) -lt $((@hours@ * 3600)) ] || h=yes
done
echo hangs=$h
case $h$s in yes* | *=failed*) exit 101 ;; esac
exit 100
} </dev/null
