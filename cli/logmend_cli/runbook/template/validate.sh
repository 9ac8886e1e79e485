#!/bin/sh
# 100: NAME is not failing; 101: it has failed; 102: leave alone
{
s=$(timeout 9 systemctl show -p LoadState -p ActiveState NAME.service) || exit 1
i=$(timeout 5 curl -q -fsx '' -HMetadata-Flavor:Google \
  169.254.169.254/computeMetadata/v1/instance/id)
echo "instance_id=${i%%[!0-9]*}"
echo "$s" | sed -n 's/ActiveState/service/p'
cat "${LOGMEND_ROOT:-}/var/lib/logmend/NAME.mark" 2>/dev/null
case $s in
  *=masked*)
    echo reason=masked_by_others
    exit 102
    ;;
  *=failed*) exit 101 ;;
esac
exit 100
} </dev/null
