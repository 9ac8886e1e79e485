# Brings a unit about on a throwaway machine: NAME ACTIVE ENABLED TEXT. TEXT is a stand-in for it, where no package has it.
# One that has failed succeeds at its next start.
set -eu
name=$1 active=$2 enabled=$3
units=/usr/lib/systemd/system
if ! systemctl cat "$name" >/dev/null 2>&1; then
  printf '%s' "$4" >"$units/$name"
  case $name in
    *.timer) printf '[Service]\nType=oneshot\nExecStart=/bin/true\n' >"$units/${name%.timer}.service" ;;
  esac
  systemctl daemon-reload
fi
[ "$enabled" = masked ] || systemctl "${enabled%d}" "$name"
case $active in
  active) systemctl start "$name" ;;
  inactive) systemctl stop "$name" ;;
  failed)
    at=/run/systemd/system/$name.d/zz-fails.conf
    mkdir -p "${at%/*}"
    printf '[Service]\nType=oneshot\nExecStartPre=\nExecStart=\nExecStart=/bin/false\nRestart=no\n' >"$at"
    systemctl daemon-reload
    systemctl restart "$name" || :
    rm "$at"
    systemctl daemon-reload
    ;;
esac
at=$(systemctl is-active "$name") || :
if [ "$at" != "$active" ]; then
  echo "$name is $at; a condition of its unit may not hold on this machine" >&2
  exit 1
fi
[ "$enabled" != masked ] || systemctl mask "$name"
