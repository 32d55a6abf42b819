#!/usr/bin/env bash
# Make the machines of the Vagrantfile a fleet. Every part may run again and then changes nothing.
#
#   provision.sh keys FOLDER MACHINE...   where Vagrant runs, before a machine starts; MACHINE is name=role=address
#   provision.sh server|mirror|target     on a machine, as root
#
# All keys, the machines' own host keys too, are made in one place before the first machine starts. So the machines may
# come up in any order, each knows all others from the beginning, and no key is taken from the network on trust.
set -euo pipefail

keys=/opt/skein-keys   # what `keys` laid into FOLDER/<name>, brought by Vagrant
checkout=/opt/skein
venv=/opt/skein-venv
site=/srv/www

make_keys() {
  local folder=$1 machine name role address known='' server='' targets='' trusted
  shift
  umask 077
  mkdir -p "$folder"
  echo '*' | put "$folder/.gitignore"
  for machine; do
    IFS='=' read -r name role address <<<"$machine"
    mkdir -p "$folder/$name"
    make_key "$folder/$name/host_key"
    make_key "$folder/$name/user_key"
    known+="$name,$address $(public "$folder/$name/host_key")"$'\n'
    case $role in
      server) server+="$(public "$folder/$name/user_key")"$'\n' ;;
      target) targets+="$(public "$folder/$name/user_key")"$'\n' ;;
    esac
  done
  for machine; do
    IFS='=' read -r name role address <<<"$machine"
    case $role in
      server) trusted='' ;;
      mirror) trusted=$server$targets ;;
      target) trusted=$server ;;
    esac
    printf %s "$known" | put "$folder/$name/known_hosts"
    printf %s "$trusted" | put "$folder/$name/authorized_keys"
  done
}

# Machines may start side by side, each with a run of this: a key is made aside and linked in place, and the first wins.
make_key() {
  if [ ! -e "$1" ]; then
    ssh-keygen -q -t ed25519 -N '' -C skein-vagrant -f "$1.$$"
    ln "$1.$$" "$1" 2>/dev/null || [ -e "$1" ]
    rm "$1.$$" "$1.$$.pub"
  fi
}

public() {
  ssh-keygen -y -f "$1" | cut -d' ' -f1,2
}

# Write standard input to a file that others may be reading.
put() {
  cat >"$1.$$"
  mv "$1.$$" "$1"
}

install_packages() {
  local package missing=()
  for package; do
    dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -qx 'install ok installed' || missing+=("$package")
  done
  if [ "${#missing[@]}" -gt 0 ]; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
  fi
}

# Be known by the host key that the others were told, and know them by name.
take_identity() {
  install -m 600 "$keys/host_key" /etc/ssh/ssh_host_ed25519_key
  ssh-keygen -y -f "$keys/host_key" >/etc/ssh/ssh_host_ed25519_key.pub
  if [ -d /run/systemd/system ]; then
    systemctl reload ssh
  fi
  { sed '/ # skein$/d' /etc/hosts; sed -E 's/^([^,]+),([^ ]+) .*/\2 \1 # skein/' "$keys/known_hosts"; } >/etc/hosts.new
  cat /etc/hosts.new >/etc/hosts
  rm /etc/hosts.new
}

# Let a user log in elsewhere, and know where.
give_keys() {
  local user=$1 home
  home=$(getent passwd "$user" | cut -d: -f6)
  install -d -m 700 -o "$user" -g "$user" "$home/.ssh"
  install -m 600 -o "$user" -g "$user" "$keys/user_key" "$home/.ssh/id_ed25519"
  install -m 644 -o "$user" -g "$user" "$keys/known_hosts" "$home/.ssh/known_hosts"
}

# Make the user whom Skein logs in as, and a folder of its own.
make_deploy() {
  id deploy >/dev/null 2>&1 || useradd --create-home --shell /bin/bash deploy
  give_keys deploy
  install -m 600 -o deploy -g deploy "$keys/authorized_keys" ~deploy/.ssh/authorized_keys
  install -d -m 755 -o deploy -g deploy "$1"
}

make_server() {
  install_packages python3-venv
  give_keys vagrant
  [ -x "$venv/bin/pip" ] || python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --editable "$checkout"
  ln -sf "$venv/bin/fab" "$venv/bin/invoke" /usr/local/bin/
  install -d -o vagrant -g vagrant "$site"
  runuser -u vagrant -- bash -euo pipefail -c "$(declare -f make_site); make_site $site"
}

make_site() {
  cd "$1"
  git rev-parse --quiet --verify HEAD >/dev/null 2>&1 && return
  git init --quiet --initial-branch main
  git config user.name vagrant
  git config user.email vagrant@server-1
  echo '<!doctype html><title>Skein</title><h1>Version 1</h1>' >index.html
  git add index.html
  git commit --quiet --message 'Open the site'
}

case ${1-} in
  keys)
    make_keys "${@:2}"
    exit
    ;;
  server | mirror | target) ;;
  *)
    echo "usage: provision.sh keys FOLDER NAME=ROLE=ADDRESS... | server | mirror | target" >&2
    exit 2
    ;;
esac
install_packages git openssh-server python3 rsync
take_identity
case $1 in
  server) make_server ;;
  mirror) make_deploy /srv/git ;;
  target) make_deploy /srv/app ;;
esac
