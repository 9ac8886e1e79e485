#!/bin/sh
# As root. 100: the timer is again as it was before us; 102: leave alone
{
set -e
u=gce-workload-cert-refresh.timer
f=${LOGMEND_ROOT:-}/var/lib/logmend/workload-cert-refresh
look() {
  s=$(timeout 9 systemctl show -p LoadState -p UnitFileState -p ActiveState $u)
}
end() {
  printf '%s\n' "$s" "$2" | tee "$f.out"
  exit "$1"
}
kept() {
  case $w in *=$1*) case $s in *=$1*) ;; *) return 1 ;; esac ;; esac
}
[ -e "$f.state" ] || [ -e "$f.reverted" ] || {
  echo reason=no_previous_state
  exit 102
}
umask 022
exec 9>"$f.lock"
timeout 60 flock 9
look
[ -e "$f.state" ] || end 100 changed=no
w=$(cat "$f.state")
case $s in
  *masked*) end 102 reason=masked_by_others ;;
  *not-found*) end 102 reason=unit_absent ;;
esac
kept enabled || timeout 60 systemctl enable $u >&2
kept activ || timeout 60 systemctl start $u >&2
look
kept enabled
kept activ
mv "$f.state" "$f.reverted"
end 100 changed=yes
} </dev/null
