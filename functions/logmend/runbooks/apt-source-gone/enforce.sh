#!/bin/sh
# 100: commented out, or nothing to do
{
set -e
cd "${LOGMEND_ROOT:-}/"
f=var/lib/logmend/apt-source-gone
mkdir -p ${f%/*}
exec 9>$f.lock
timeout 60 flock 9
u=$(timeout 20 apt-get update --print-uris) || exit 1
k=$(timeout 9 dpkg -l 'google-*' 'stack*' 2>&1 | grep ^ii) || :
c=no
for d in $(echo "$u" | sed -n "s,^'\(http.*\)/InRelease'.*,\1,p"); do
  case $d-$k in
    *-monitoring-*ii*stack* | *-logging-*ii*fluentd* | *-ops-agent-*ii*ops-agent*) continue ;;
    http*://packages.cloud.google.com/apt/dists/google-cloud-[lmo]*) ;;
    http*://*.debian.org/debian/dists/*-backports-*) ;;
    *) continue ;;
  esac
  case $(timeout 20 curl -qsm9 -Iw '=%{http_code}' $d/InRelease $d/Release) in
    *=404*=404) ;;
    *) continue ;;
  esac
  echo $d >>$f.state
  echo mark=$1 >$f.mark
  c=yes
  find etc/apt -name '*.list' -exec sed -i "s,^deb.* ${d%/dists/*}/* ${d##*/} ,#logmend# &," {} +
done
echo changed=$c | tee $f.out
exit 100
} </dev/null
