#!/bin/sh
# 100: timer off or absent; 101: on; 102: leave alone
{
m=http://metadata.google.internal/computeMetadata/v1/instance
get() {
  timeout 5 curl -s --noproxy \* -H Metadata-Flavor:Google "$@"
}
leave() {
  echo "reason=$1"
  exit 102
}
s=$(timeout 9 systemctl show -p LoadState -p UnitFileState -p ActiveState gce-workload-cert-refresh.timer)
case $s in
  *not-found*) p=no ;;
  *ActiveState=*) p=yes ;;
  *) exit 1 ;;
esac
c=$(get -o /dev/null -w '%{http_code}' $m/gce-workload-certificates/config-status) || c=000
[ ! -e "${LOGMEND_ROOT:-}/run/secrets/workload-spiffe-credentials" ] || c=$c+credentials
i=$(get -f $m/id)
echo "unit_present=$p
config_status=$c
instance_id=${i%%[!0-9]*}"
echo "$s" | sed -n 's/UnitFileState/timer_enabled/p;s/ActiveState/timer_active/p'
case $p$s$c in
  no*) exit 100 ;;
  *masked*) leave masked_by_others ;;
  *000) leave config_status_unknown ;;
  *404) ;;
  *) leave certificates_in_use ;;
esac
case $s in *=enabled*|*=active*|*ating*) exit 101 ;; esac
exit 100
} </dev/null
