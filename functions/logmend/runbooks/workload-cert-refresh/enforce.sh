#!/bin/sh
# 100: off; 102: leave alone
{
set -e
cd "${LOGMEND_ROOT:-}/"
n=workload-cert-refresh
f=var/lib/logmend/$n
u=gce-$n.timer
look() {
  s=$(timeout 9 systemctl show -p UnitFileState -p ActiveState $u)
}
end() {
  echo "$s
$2" | sed 's/U.*=/timer_enabled=/;s/A.*=/timer_active=/' | tee $f.out
  exit "$1"
}
umask 022
mkdir -p ${f%/*}
exec 9>$f.lock
timeout 60 flock 9
look
case $s in
  *masked*) end 102 reason=masked_by_others ;;
  *=enabled*|*=active*|*ating*) ;;
  *) end 100 changed=no ;;
esac
c=$(timeout 5 curl -s --noproxy \* -H Metadata-Flavor:Google -o /dev/null -w '%{http_code}' \
  metadata.google.internal/computeMetadata/v1/instance/gce-workload-certificates/config-status) || c=000
[ ! -e run/secrets/workload-spiffe-credentials ] || c=used
case $c in
  404) ;;
  000) end 102 reason=config_status_unknown ;;
  *) end 102 reason=certificates_in_use ;;
esac
[ -e $f.state ] || {
  echo "$s" >$f.new
  mv $f.new $f.state
}
timeout 60 systemctl disable --now -q $u
look
end 100 changed=yes
} </dev/null
