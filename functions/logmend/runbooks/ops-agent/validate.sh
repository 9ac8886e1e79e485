#!/bin/sh
# 100: installed and running; 101: not, or at work on it; 102: leave alone
{
f=${LOGMEND_ROOT:-}/var/lib/logmend/ops-agent
has() {
  timeout 9 dpkg -s "$1" | grep -q ' ok installed' || timeout 9 rpm -q "$1"
} >/dev/null 2>&1
state() {
  s=$(timeout 9 systemctl show -p ActiveState "$1") && s=${s#*=} || exit 1
}
i=$(timeout 5 curl -q -fsx '' -HMetadata-Flavor:Google \
  169.254.169.254/computeMetadata/v1/instance/id)
p=absent
if has google-cloud-ops-agent; then p=installed; fi
state logmend-ops-agent
w=$s
state google-cloud-ops-agent
echo "instance_id=${i%%[!0-9]*}
package=$p
service=$s"
cat "$f.mark" 2>&1
case $w/$p/$s in
  activ*)
    echo state=installing
    exit 101
    ;;
  */installed/active) exit 100 ;;
esac
if has stackdriver-agent || has google-fluentd; then
  echo reason=legacy_agent_present
  exit 102
fi
# What did not succeed within the last minutes says why.
if [ "$(find "$f.try" -mmin -15 2>/dev/null)" ]; then
  tail -n 3 "$f.try" >&2
  exit 1
fi
exit 101
} </dev/null
