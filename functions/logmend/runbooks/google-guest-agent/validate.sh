#!/bin/sh
# 100: up, or stopped by somebody; 101: given up by systemd; 102: leave alone; 103: on its way up or down
{
cd "${LOGMEND_ROOT:-}/" || exit
f=var/lib/logmend/google-guest-agent
m=169.254.169.254/computeMetadata/v1/instance/id
i=$(timeout 5 curl -q -fsx '' -HMetadata-Flavor:Google $m)
echo "instance_id=${i%%[!0-9]*}"
cat $f.mark 2>&1
leave() {
  echo "reason=$1"
  exit 102
}
p=$(timeout 9 systemctl show -p ActiveState google-guest-agent-manager.service) || exit 1
s=$(timeout 9 systemctl show -p LoadState -p ActiveState -p Result google-guest-agent.service) || exit 1
echo "$s" | sed 's/ActiveState/service/;s/LoadState/unit/;s/Result/result/'
case $s in
  *=masked*) leave masked_by_others ;;
  *=not-found*) leave unit_absent ;;
esac
# The plugin manager starts what it needs by itself.
case $p in *=active*) leave managed_by_plugin_manager ;; esac
case $s in
  *ActiveState=failed*) exit 101 ;;
  *ActiveState=*activating*) exit 103 ;;
esac
exit 100
} </dev/null
