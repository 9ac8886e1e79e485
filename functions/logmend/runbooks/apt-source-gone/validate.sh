#!/bin/sh
# 101: gone
{
leave() { echo reason=$1; exit 102; }
cd "${LOGMEND_ROOT:-}/" || exit
i=$(timeout 5 curl -qfsx '' -HMetadata-Flavor:Google 169.254.169.254/computeMetadata/v1/instance/id)
echo "instance_id=${i%%[!0-9]*}"
cat var/lib/logmend/apt-source-gone.mark 2>&1
u=$(timeout 20 apt-get update --print-uris) || exit 1
k=$(timeout 9 dpkg -l 'google-*' 'stack*' 2>&1 | grep ^ii)
x=100
for d in $(echo "$u" | sed -n "s,^'\(http.*\)/InRelease'.*,\1,p"); do
 case $d-$k in
  *-monitoring-*ii*stack* | *-logging-*ii*fluentd* | *-ops-agent-*ii*ops-agent*) continue ;;
  http*://packages.cloud.google.com/apt/dists/google-cloud-[lmo]*) ;;
  http*://*.debian.org/debian/dists/*-backports-*) ;;
  *) continue ;;
 esac
 case $(timeout 20 curl -qsm9 -Iw '=%{http_code}' $d/InRelease $d/Release) in
  *=404*=404) ;;
  *=000*) leave repository_unknown ;;
  *) continue ;;
 esac
 grep -rq --include=*.list "^deb.* ${d%/dists/*}/* ${d##*/} " etc/apt || leave other_format
 echo gone=${d##*/}
 x=101
done
exit $x
} </dev/null
