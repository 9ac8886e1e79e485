#!/bin/sh
# 100: given back; 101: not yet; 102: let be
{
f=${LOGMEND_ROOT:-}/var/lib/logmend/workload-cert-refresh
leave() {
  echo "reason=$1"
  exit 102
}
kept() {
  case $w in *=$1*) case $s in *=$1*) ;; *) exit 101 ;; esac ;; esac
}
s=$(timeout 9 systemctl show -p LoadState,UnitFileState,ActiveState gce-workload-cert-refresh.timer)
i=$(timeout 5 curl -q -fsx '' -HMetadata-Flavor:Google 169.254.169.254/computeMetadata/v1/instance/id)
echo "instance_id=${i%%[!0-9]*}"
echo "$s" | sed 's/U.*=/timer_enabled=/;s/A.*=/timer_active=/'
cat "$f.mark" 2>&1
case $s in *ActiveState=*) ;; *) leave systemd_silent ;; esac
case $(LC_ALL=C cat "$f.state" 2>&1) in *denied) leave unreadable ;; esac
[ -e "$f.state" ] || {
  [ -e "$f.reverted" ] || leave no_previous_state
  echo reverted=yes
  exit 100
}
w=$(cat "$f.state") || exit 1
echo "$w" | sed 's/U.*=/was_enabled=/;s/A.*=/was_active=/'
case $s in
  *masked*) leave masked_by_others ;;
  *not-found*) leave unit_absent ;;
esac
kept enabled
kept activ
exit 100
} </dev/null
