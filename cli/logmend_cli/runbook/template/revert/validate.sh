#!/bin/sh
# 100: given back; 101: not yet; 102: leave alone
{
f=${LOGMEND_ROOT:-}/var/lib/logmend/NAME
i=$(timeout 5 curl -q -fsx '' -HMetadata-Flavor:Google \
  169.254.169.254/computeMetadata/v1/instance/id)
echo "instance_id=${i%%[!0-9]*}"
cat "$f.mark" 2>/dev/null
[ ! -e "$f.state" ] || exit 101
[ ! -e "$f.reverted" ] || exit 100
echo reason=no_previous_state
exit 102
} </dev/null
