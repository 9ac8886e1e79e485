"""A stand-in for ``add-google-cloud-ops-agent-repo.sh``, the install script that Google publishes.

It takes the options and versions of the published one, refuses what that refuses, and goes its way: write
the repository file, refresh with apt-get, install; ``--uninstall`` removes the package, and ``--remove-repo``
the repository file, without any look at the network. Read in public copies of the script. Where it differs:
apt only, no key is added (the repository is trusted as it is), one repository serves every major version, the
refresh reads no other sources (a machine of the lab has no way out), and no configuration is copied away.
"""

from tests.lab.agent_package import BUILD, NAME
from tests.lab.machines import Machine

FILE = f"add-{NAME}-repo.sh"
LIST = f"/etc/apt/sources.list.d/{NAME}.list"

_SCRIPT = f"""#!/bin/bash
fail() {{ echo "$*" >&2; exit 1; }}
version=latest actions=' '
for each; do
  case $each in
    --also-install | --uninstall | --remove-repo) actions+="${{each#--}} " ;;
    --version=*) version=${{each#--version=}} ;;
    *) fail "Unknown option '$each'." ;;
  esac
done
package={NAME} list={LIST}
only="-o Dir::Etc::sourcelist=$list -o Dir::Etc::sourceparts=-"
if [[ $version =~ ^[0-9]+\\.\\*\\.\\*$ ]]; then wanted="=${{version%.\\*}}"
elif [[ $version =~ ^[0-9]+\\.[0-9]+\\.[0-9]+$ ]]; then wanted="=$version~*"
elif [[ $version == latest ]]; then wanted=''
else fail "The agent version [$version] is not allowed."
fi
case $actions in
  *' uninstall '*)
    [[ $actions != *also-install* ]] || fail "Received conflicting flags."
    if dpkg -l $package 2>&1 | grep -q ^ii; then
      apt-get -y remove $package || fail "$package uninstallation failed."
    fi
    ;;
  *)
    echo "deb [trusted=yes] @url@ ./" >$list
    ;;
esac
if [[ $actions == *also-install* ]]; then
  apt-get $only update || fail "Could not refresh the google-cloud-ops-agent apt repositories.
Please check your network connectivity and make sure you are running a supported
debian distribution. See https://example.com/supported
for a list of supported platforms."
  DEBIAN_FRONTEND=noninteractive apt-get $only -y --allow-downgrades install "$package$wanted" ||
    fail "$package installation failed."
  echo "$package installation succeeded ($version)."
fi
[[ $actions != *remove-repo* ]] || rm -f $list
exit 0
"""


def script(url: str) -> str:
    """Give the install script of a repository at an address that apt can read."""
    return _SCRIPT.replace("@url@", url)


LOCAL = "#!/bin/bash\n" + f"[ -e /opt/apt/Packages ] || (\n{BUILD})\n" + script("file:/opt/apt")
"""The install script of a machine on its own: it first builds the package that it installs."""

_CURL = """#!/bin/sh
# Answers for the repository that a machine without a way out cannot reach; anything else is the real curl's.
case $* in
*dl.google.com/*)
  while [ "${1#-}" = "$1" ] || [ "${1%o}" = "$1" ]; do shift; done
  exec cp /opt/installer "$2"
  ;;
esac
exec /usr/bin/curl "$@"
"""


async def offer(machine: Machine) -> None:
    """Have the machine find the install script where the ops-agent runbook fetches it from."""
    await machine.run("cat >/opt/installer", stdin=LOCAL.encode())
    await machine.run("cat >/usr/local/bin/curl", stdin=_CURL.encode())
    await machine.output("chmod 755 /usr/local/bin/curl")
