#!/bin/sh
set -e
cd "$LOGMEND_ROOT/"
n=workload-cert
f=var/lib/logmend/$n-refresh
u=gce-$n-refresh.timer
end() { echo ${2-reason}=$1 | tee $f.out; exit ${3-102}; }
umask 22
mkdir -p ${f%/*}
exec 9>$f.lock
timeout 60 flock 9
s=$(timeout 9 systemctl show -p ActiveState,FragmentPath,UnitFileState $u)
case $s in
  *masked*) end masked_by_others;;
  *lib/systemd/*/$u*=enabled*) c=disable;;
  *=enabled*) end irreversible;;
  *=active*) c=stop;;
  *) end no changed 100;;
esac
case $(timeout 9 curl -q -fsx '' -HMetadata-Flavor:Google -w' %{http_code} ' \
"169.254.169.254/computeMetadata/v1/instance/{gce-${n}ificates/config-status,attributes/enable-${n}ificate}"
)$(echo run/secrets/*/cert*) in
  *[Tt][Rr][Uu][Ee]*) end opted_in;;
  *s.pem*|\{*|\ 412*) end certificates_in_use;;
  \ 404\ \ 404*|\ 404*\ 200*);;
  *) end config_status_unknown;;
esac
echo "$s">$f.new
[ -e $f.state ] || mv $f.new $f.state
echo mark=$1>$f.mark
for r in runtime\ --no-reload now; do timeout 60 systemctl $c -q --$r $u; done
end yes changed 100
