#!/bin/sh
# 100: installed, and all its units are up and stay up; 101: not so, or at work on it; 102: leave alone; 103: busy
{
f=${LOGMEND_ROOT:-}/var/lib/logmend/ops-agent
p=google-cloud-ops-agent
# What does not answer says nothing of what is installed.
has() {
  case $(timeout 9 dpkg -s "$1" || echo "=$?") in
    *' ok installed'*) return 0 ;;
    *=124) exit 1 ;;
  esac
  timeout 9 rpm -q "$1" && return 0
  [ $? != 124 ] || exit 1
  return 1
} >/dev/null 2>&1
leave() {
  echo "reason=$1"
  exit 102
}
i=$(timeout 5 curl -q -fsx '' -HMetadata-Flavor:Google \
  169.254.169.254/computeMetadata/v1/instance/id)
echo "instance_id=${i%%[!0-9]*}"
package=absent
if has $p; then package=installed; fi
echo "package=$package"
cat "$f.mark" 2>&1

# The parent is a oneshot that has ended: the work is in the others. One that systemd had to start again is up once it
# has been so for a while; older ones of systemd (SLES 12) do not count.
up=yes masked=''
read -r now _ <"${LOGMEND_ROOT:-}/proc/uptime" || now=0
for n in '' -fluent-bit -opentelemetry-collector -diagnostics; do
  s=$(timeout 9 systemctl show -p LoadState -p ActiveState -p NRestarts -p ActiveEnterTimestampMonotonic $p$n) ||
    leave systemd_silent
  active=${s#*ActiveState=}
  active=${active%%[!a-z]*}
  since=${s#*ActiveEnterTimestampMonotonic=}
  since=${since%%[!0-9]*}
  case $n/$active/$s in
    -diagnostics/*=not-found* | -diagnostics/*=masked*) continue ;;
    *LoadState=masked*) masked=yes ;;
    */active/*NRestarts=[1-9]*)
      if [ $((${now%.*} - ${since%??????})) -lt @settle@ ]; then active=restarting; fi
      ;;
  esac
  [ "$active" = active ] || up=no
  echo "service$n=$active" | tr - _
done
w=$(timeout 9 systemctl show -p ActiveState logmend-ops-agent) || leave systemd_silent
case $w in
  *=activ*)
    echo state=installing
    exit 101
    ;;
esac
[ "$package/$up" != installed/yes ] || exit 100

# Installed by the VM Extension Manager, or by the guest agent itself: that one refuses to start beside a package.
if [ -d "${LOGMEND_ROOT:-}/var/lib/google-guest-agent/agent_state/plugins/ops-agent-plugin" ]; then
  leave managed_by_plugin
fi
if has stackdriver-agent || has google-fluentd; then leave legacy_agent_present; fi
[ -z "$masked" ] || leave masked_by_others
# What did not succeed within the last minutes says why.
if [ "$(find "$f.try" -mmin -15 2>/dev/null)" ]; then
  grep '^reason=' "$f.try"
  # It met somebody else's lock, which was free when it was started: it is started again.
  if grep -qE '^(E: (Could not get|Unable to (acquire|lock))|dpkg: error: .* lock)' "$f.try"; then
    echo lock=taken
    exit 103
  fi
  # The installer ends with words of its own, which blame the network; the cause is above them.
  {
    grep -aE '^ *(E:|W:|Err|curl:|dpkg:|rpm:|error:|Problem:)' "$f.try" | tail -n 4
    tail -n 3 "$f.try"
  } | awk '!seen[$0]++' | sed 's|//[^/ ]*@|//|g' >&2
  exit 1
fi
exit 101
} </dev/null
