#!/bin/sh
{
cd "$LOGMEND_ROOT/" || exit
n=workload-cert-refresh
w=${n%-*}ificate
m=169.254.169.254/computeMetadata/v1/instance
s=$(timeout 9 systemctl show -p LoadState,UnitFileState,ActiveState gce-$n.timer)
a=$(timeout 9 curl -q -fsx '' -HMetadata-Flavor:Google -w' +%{http_code} ' -o/dev/null \
  $m/gce-${w}s/config-status $m/id $m/attributes/enable-$w)
set -- $a
echo "$s
config_status=$1
instance_id=${2%%[!0-9]*}
opt_in=$4" | sed 's/=+/=/;s/U.*=/timer_enabled=/;s/A.*=/timer_active=/;s/L.*=/unit=/;s/d=[sg].*/&\nlasts=until_reboot/'
cat var/lib/logmend/$n.mark 2>&1
x=
case $s in
*=enabled*|*=active*) x=101;;
*ActiveState=*) x=100;;
esac
case $x$s/$1,$4$5/$(LC_ALL=C ls run/secrets/*-credentials/ 2>&1) in
*masked*) e=masked_by_others;;
100*not-found*) exit 100;;
*[Tt][Rr][Uu][Ee]*) e=opted_in;;
*/+200,*|*/+412,*|*ates.pem*) e=certificates_in_use;;
*denied) e=unreadable;;
[!1]*) e=systemd_silent;;
*/+404,+404/*|*/+404,*+200/*) exit $x;;
*) e=config_status_unknown;;
esac
echo reason=$e
exit 102
} </dev/null
