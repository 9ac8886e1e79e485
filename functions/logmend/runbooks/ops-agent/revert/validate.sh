#!/bin/sh
# 100: as the record says, or given back; 101: not yet; 102: leave alone
{
f=${LOGMEND_ROOT:-}/var/lib/logmend/ops-agent
leave() {
  echo "reason=$1"
  exit 102
}
state() {
  s=$(timeout 9 systemctl show -p LoadState -p ActiveState "$1") || leave systemd_silent
}
i=$(timeout 5 curl -q -fsx '' -HMetadata-Flavor:Google \
  169.254.169.254/computeMetadata/v1/instance/id)
echo "instance_id=${i%%[!0-9]*}"
cat "$f.mark" 2>&1
if [ -e "$f.state" ]; then
  r=$(cat "$f.state") || exit 1
elif [ -e "$f.reverted" ]; then
  echo reverted=yes
  exit 100
else
  leave no_previous_state
fi
state logmend-ops-agent
w=$s
state google-cloud-ops-agent
echo "$s" | sed 's/LoadState/unit/;s/ActiveState/service/'
case $w in
  *=activ*)
    echo state=at_work
    exit 101
    ;;
esac
p=google-cloud-ops-agent
repo=''
for file in etc/apt/sources.list.d/$p.list etc/yum.repos.d/$p.repo etc/zypp/repos.d/$p.repo; do
  [ ! -e "${LOGMEND_ROOT:-}/$file" ] || repo=yes
done
echo "repo=${repo:-no}"
# A repository file that was not there before us is still to go. An agent that ran, in part, was only restarted.
case $r/$s in
  *not-found*repo=/*not-found*) [ -n "$repo" ] || exit 100 ;;
  *not-found*/*not-found* | *=active*/*=loaded* | *=loaded*/*=inactive* | *=loaded*/*=failed*) exit 100 ;;
esac
if [ "$(find "$f.undo" -mmin -15 2>/dev/null)" ]; then
  tail -n 3 "$f.undo" >&2
  exit 1
fi
exit 101
} </dev/null
