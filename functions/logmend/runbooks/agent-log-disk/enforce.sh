#!/bin/sh
# 100: cut, or nothing to do; 102: leave alone
{
set -e
cd "${LOGMEND_ROOT:-}/"
n=agent-log-disk
r=run/logmend/$n
f=var/lib/logmend/$n
l=var/log/google-cloud-ops-agent/subagents/logging-module.log
end() {
  mkdir -p ${f%/*} || :
  echo "$1" | tee $f.out || :
  exit "$2"
}
umask 022
mkdir -p ${r%/*}
exec 9>$r.lock
timeout 60 flock 9
[ -e $l ] || end changed=no 100
case $(timeout 9 df -P $l) in *\ 100%\ *) ;; *) end changed=no 100 ;; esac
case $(stat -c %f/%h $l) in
  8???/1) ;;
  *) end reason=other_cause 102 ;;
esac
[ "$(stat -c %b $l)" -gt $((@megabytes@ * 2048)) ] || end reason=other_cause 102
# The disk is full: the record is in memory until there is room, or nothing is done.
{
  (umask 077 && tail -c 1048576 $l >$r.tail) && echo "mark=$1" >$r.mark
} || end reason=record_does_not_fit 102
: >$l
mkdir -p ${f%/*}
cp $r.tail $f.tail && cp $r.mark $f.mark && rm $r.tail $r.mark || :
end changed=yes 100
} </dev/null
