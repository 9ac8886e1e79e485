#!/bin/sh
# 100: running, or unit logmend-ops-agent at work
{
set -e
cd "${LOGMEND_ROOT:-}/"
u=logmend-ops-agent
f=var/lib/logmend/ops-agent
end() {
  echo "changed=$1" | tee $f.out
  exit 100
}
umask 022
mkdir -p ${f%/*}
exec 9>$f.lock
timeout 60 flock 9
s=$(timeout 9 systemctl show -p LoadState,UnitFileState,ActiveState google-cloud-ops-agent)
w=$(timeout 9 systemctl show -p ActiveState $u)
case $s$w in *=activ*) end no ;; esac
[ -e $f.state ] || {
  echo "$s" >$f.new
  mv $f.new $f.state
}
echo mark=$1>$f.mark
timeout 9 systemctl reset-failed $u 2>/dev/null || :
timeout 30 systemd-run --unit=$u sh -ec 'exec >"$0.try" 2>&1
cd "${0%/*}"
if command -v dpkg; then dpkg --configure -a; fi
if ! systemctl cat google-cloud-ops-agent; then
  curl -m60 -fsSO "@repo_url@/add-google-cloud-ops-agent-repo.sh"
  bash add-google-cloud-ops-agent-repo.sh --also-install "--version=@version@"
fi
systemctl enable --now google-cloud-ops-agent
mv "$0.try" "$0.log"' "$PWD/$f"
end yes
} </dev/null
