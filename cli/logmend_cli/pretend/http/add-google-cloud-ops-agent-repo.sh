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
apt-get update
[[ -z $also_install ]] || apt-get -y install google-cloud-ops-agent || exit
echo "google-cloud-ops-agent installation succeeded ($version)."
