#!/bin/bash
# A stand-in for the script that Google publishes under this name: the options that logmend uses, nothing fetched.
also_install='' version=latest
for option; do
  case $option in
    --also-install) also_install=yes ;;
    --version=*) version=${option#*=} ;;
    *)
      echo "[add-google-cloud-ops-agent-repo.sh]: unknown option $option" >&2
      exit 64
      ;;
  esac
done
if [[ ! $version =~ ^(latest|[0-9]+\.(\*\.\*|[0-9]+\.[0-9]+))$ ]]; then
  echo "The agent version [$version] is not allowed." >&2
  exit 1
fi
lists=${LOGMEND_ROOT:?a pretend machine has a root}/etc/apt/sources.list.d
mkdir -p "$lists"
echo 'deb https://packages.cloud.google.com/apt google-cloud-ops-agent-bookworm-all main' >"$lists/google-cloud-ops-agent.list"
apt-get update
[[ -z $also_install ]] || apt-get -y install google-cloud-ops-agent || exit
echo "google-cloud-ops-agent installation succeeded ($version)."
