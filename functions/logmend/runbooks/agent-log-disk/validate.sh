#!/bin/sh
# 100: there is room; 101: the agent's own log has filled the disk; 102: leave alone, something else has
{
cd "${LOGMEND_ROOT:-}/" || exit
n=agent-log-disk
l=var/log/google-cloud-ops-agent/subagents/logging-module.log
m=169.254.169.254/computeMetadata/v1/instance/id
i=$(timeout 5 curl -q -fsx '' -HMetadata-Flavor:Google $m)
echo "instance_id=${i%%[!0-9]*}"
cat run/logmend/$n.mark 2>&1 || cat var/lib/logmend/$n.mark 2>&1
full=
for d in . var/log $l; do
  [ -e $d ] || continue
  u=$(timeout 9 df -P $d) || exit 1
  case $(timeout 9 df -Pi $d) in *\ 100%\ *) full=yes ;; esac
  case $u in *\ 100%\ *) full=yes ;; *) continue ;; esac
  # a file of its own, by the room that it takes: nobody's link, nor a hole
  case $(stat -c %f/%h/%b $d) in
    8???/1/*) ;;
    *) continue ;;
  esac
  b=$(stat -c %b $d)
  [ "$b" -gt $((@megabytes@ * 2048)) ] || continue
  echo "log=/$d
megabytes=$((b / 2048))"
  exit 101
done
echo "full=${full:-no}"
[ "$full" ] || exit 100
echo reason=other_cause
exit 102
} </dev/null
