#!/usr/bin/env bash
# Debian trixie's RabbitMQ 4 and PostgreSQL 17 in a folder of their own, for machines that have older ones.
# Installs them at the first run (about a minute, 0.9 GB) and lays down programs that run them: <folder>.bin/rabbitmq-server,
# rabbitmqctl, epmd, initdb, postgres. These see the machine's /tmp, its network and no other of its files.
# Needs root and debootstrap. Prints the folder of the programs.
set -euo pipefail

root="${TRIXIE_ROOT:-/var/cache/meridian-trixie}"
bin="$root.bin"

if [ ! -d "$root" ]; then
  rm -rf "$root.part"
  debootstrap --variant=minbase trixie "$root.part" "${TRIXIE_MIRROR:-http://deb.debian.org/debian}" >&2
  # No service starts when its package is installed.
  printf '#!/bin/sh\nexit 101\n' >"$root.part/usr/sbin/policy-rc.d"
  chmod +x "$root.part/usr/sbin/policy-rc.d"
  chroot "$root.part" env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 \
    apt-get install -y -qq --no-install-recommends rabbitmq-server postgresql >&2
  mv "$root.part" "$root"
fi
cp /etc/hosts "$root/etc/hosts"

# The mounts end with the program, and its process is the one that was started: it can be killed.
program() {
  cat >"$bin/$1" <<EOF
#!/bin/sh
exec unshare --mount --propagation private sh -c '
  mount --bind /tmp "$root/tmp" && mount --rbind /proc "$root/proc" && mount --rbind /dev "$root/dev" &&
  exec chroot --userspec=$3 "$root" "\$0" "\$@"' $2 "\$@"
EOF
  chmod +x "$bin/$1"
}
mkdir -p "$bin"
program rabbitmq-server /usr/lib/rabbitmq/bin/rabbitmq-server root
program rabbitmqctl /usr/lib/rabbitmq/bin/rabbitmqctl root
program epmd /usr/bin/epmd root
program initdb /usr/lib/postgresql/17/bin/initdb postgres
program postgres /usr/lib/postgresql/17/bin/postgres postgres
echo "$bin"
