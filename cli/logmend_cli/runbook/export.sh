#!/bin/sh
# Runbook @NAME@, @DIGEST@, exported by logmend @VERSION@ for the VM that runs it: @WHAT@.
#
#   sh THIS                                 looks, and changes nothing
#   sh THIS --enforce --labels-unchecked    @DOES@ if the check sees the fault, as root, and checks again
#
# The VM's labels cannot be seen from here, which --labels-unchecked says that you know. Metadata logmend=off of the VM or
# its project refuses. The last line of standard output is the outcome, as JSON. That it enforces, for whom, and what came of
# it is in the VM's log (logger, tag logmend) as well. Exit status: 0 all well, or only looked; 1 failed or unverified; 2 wrong
# use; 3 left alone.
enforce='' unchecked=''
for each; do
  case $each in
    --enforce) enforce=yes ;;
    --labels-unchecked) unchecked=yes ;;
    *)
      echo "usage: sh $0 [--enforce --labels-unchecked]" >&2
      exit 2
      ;;
  esac
done
if [ "$enforce$unchecked" = yes ]; then
  echo "--enforce and --labels-unchecked go together: labels such as logmend=off cannot be seen from here" >&2
  exit 2
fi
if [ "$enforce" ] && [ "$(id -u)" != 0 ]; then
  echo "--enforce takes root" >&2
  exit 2
fi

validate() {
  cat <<'LOGMEND_END_OF_SCRIPT'
@VALIDATE@LOGMEND_END_OF_SCRIPT
}
enforcing() {
  cat <<'LOGMEND_END_OF_SCRIPT'
@ENFORCE@LOGMEND_END_OF_SCRIPT
}

longest=@SECONDS@ before=null after=null code='' out='' err='' id='' unlogged=''
by=$(printf '%s' "${LOGMEND_BY:-${SUDO_USER:-$(id -un)}}" | tr -cd ' -~')
PATH=${PATH:+$PATH:}/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

run() { # TEXT MARK: the script's exit code, output and complaints
  /bin/sh -c "$1" logmend "$2" </dev/null >"$work/out" 2>"$work/err"
  code=$?
  out=$(head -c 4096 "$work/out" | sed "$secrets")
  err=$(why)
  cat "$work/out" "$work/err" >&2
}
secrets='s|//[^/ ]*@|//|g'
why() { # the complaints on one line: what says why, then their end
  tr -cd ' -~\n' <"$work/err" | sed "$secrets" >"$work/said"
  if [ "$(wc -c <"$work/said")" -gt 512 ]; then
    grep -iE '^ *([EW]: |Err:|(curl|dpkg|rpm|error|fatal|problem): )' "$work/said" | awk '!seen[$0]++' | tr '\n' ' ' | head -c 254
    printf '... '
  fi
  tr '\n' ' ' <"$work/said" | tail -c 254
}
noted() { # TEXT: to the VM's own log
  @LOG@ "@ACTION@ of @NAME@ @DIGEST@ for $by: $1" 2>"$work/log" || unlogged=",\"not in the VM's log: logger failed\""
}
value() { # KEY: its value in the output
  printf '%s\n' "$out" | sed -n "s/^$1=//p" | head -n 1
}
text() { # a JSON string
  printf '"%s"' "$(printf '%s' "$1" | tr -cd ' -~' | sed 's/[\\"]/\\&/g')"
}
evidence() { # exit code and key=value lines as a JSON object
  printf '{"exit_code":%s' "$code"
  printf '%s\n' "$out" | awk -F= '
    /^[a-z][a-z_]*=/ && !seen[$1]++ && $1 !~ /^(exit_code|finding|at|error)$/ {
      v = substr($0, length($1) + 2)
      if (v ~ /[^ -~]/ || length(v) > 256) next
      gsub(/[\\"]/, "\\\\&", v)
      printf ",\"%s\":\"%s\"", $1, v
    }'
  printf ',"error":%s}' "$(text "$err")"
}
metadata() { # PATH: its value; 404 is empty, anything else is no answer
  timeout 9 curl -q -sx '' -HMetadata-Flavor:Google -w '\n%{http_code}' \
    "http://169.254.169.254/computeMetadata/v1/$1" >"$work/metadata" 2>/dev/null
  case $(tail -n 1 "$work/metadata") in
    200) sed '$d' "$work/metadata" ;;
    404) ;;
    *) return 1 ;;
  esac
}
end() { # RESULT REASON DETAIL: the outcome
  status=1
  case $1 in
    planned | nothing_to_do | remediated | reverted) status=0 ;;
    refused | skipped) status=3 ;;
  esac
  reason=null zone=$(metadata instance/zone) project=$(metadata project/project-id)
  [ -z "$2" ] || reason=$(text "$2")
  [ -z "$enforce" ] || noted "$1${2:+, $2}"
  printf '{"timestamp":"%s","result":"%s","reason":%s,"detail":%s,"runbook":"@NAME@","runbook_digest":"@DIGEST@",' \
    "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$1" "$reason" "$(text "$3")"
  printf '"action":"@ACTION@","mode":"%s","executor":"local",' "$([ "$enforce" ] && echo enforce || echo observe)"
  printf '"instance":{"project_id":%s,"zone":%s,"instance_id":%s},' \
    "$(text "$project")" "$(text "${zone##*/}")" "$(text "$id")"
  printf '"before":%s,"after":%s,"requested_by":%s,"notes":[%s%s],"version":"@VERSION@"}\n' \
    "$before" "$after" "$(text "$by")" '@NOTES@' "$unlogged"
  exit $status
}
words() {
  value reason | sed -n '/^[a-z][a-z0-9_]*$/p'
}

own=$(metadata instance/attributes/logmend) && all=$(metadata project/attributes/logmend) ||
  end refused facts_unknown "the metadata server did not say whether this VM is exempt"
[ "${own:-$all}" != off ] || end refused exempt "metadata logmend=off"
id=$(metadata instance/id) || end refused facts_unknown "the metadata server did not say which VM this is"

run "$(validate)" ''
before=$(evidence)
case $code in
  100) end nothing_to_do '' "the check found the desired state" ;;
  101) ;;
  102) end refused "$(words)" "the check says no" ;;
  103) end skipped busy "something else is at work here" ;;
  *) end failed script_error "$err" ;;
esac
seen=$(value instance_id)
[ "$seen" = "$id" ] || end failed wrong_instance "the check did not say that it ran on $id"
[ "$enforce" ] || end planned '' "would @ACTION@"

noted begins
mark=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
run "$(enforcing)" "$mark"
case $code in
  102) end refused "$(words)" "the enforcing script refused, and changed nothing" ;;
  103) end skipped busy "something else is at work here; nothing was changed" ;;
esac
enforced=$code changed=$(value changed) why=$err

run "$(validate)" ''
# What goes on by itself is waited for.
left=$longest
while [ "$enforced" = 100 ] && { [ $code = 101 ] || [ $code = 103 ]; } && [ $left -gt 0 ]; do
  sleep 5
  left=$((left - 5))
  run "$(validate)" '' 2>/dev/null
done
after=$(evidence)
case $code in
  100)
    [ "$changed" != no ] || end nothing_to_do '' "the fault was gone when enforcing looked"
    [ "$enforced" = 100 ] || [ "$(value mark)" = "$mark" ] || end nothing_to_do '' "nothing shows that it enforced"
    end @DONE@ '' "fault seen before, not seen after"
    ;;
  101)
    [ "$enforced" = 100 ] || end failed script_error "$why"
    end failed still_faulty "enforced, but the check still sees the fault"
    ;;
  102) end unverified "$(words)" "enforced, but the second check says no" ;;
  103) end unverified busy "enforced; something else is at work here now" ;;
  *)
    [ "$(words)" != still_faulty ] || end failed still_faulty "$err"
    [ $longest = 0 ] || end failed script_error "$err"
    end unverified check_failed "$err"
    ;;
esac
