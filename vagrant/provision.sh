#!/usr/bin/env bash
# Make machines a fleet: those of the Vagrantfile, and those of `invoke lab.up`. Run again it changes nothing.
#
#   provision.sh keys FOLDER MACHINE...   before the first machine starts, with any bash from 3.2 on, which macOS has;
#                                         a MACHINE is name=role=address
#   provision.sh ROLE                     on a virtual machine, as root: server, mirror, target or balancer
#   provision.sh settle ROLE KEYS ROOT OPERATOR   the part of that which needs no package, on files below ROOT
#
# All keys, the machines' own host keys too, are made in one place before the first machine starts. So the machines may
# come up in any order, know each other from the beginning, and no key is taken from the network on trust.
set -euo pipefail

checkout=/opt/skein
venv=/opt/skein-venv
site=/srv/www
app=/srv/app

make_keys() {
  local folder=$1 machine name role address key hosts='' all='' mirrors='' operators='' users=''
  shift
  umask 077
  mkdir -p "$folder"
  put "$folder/.gitignore" $'*\n'
  for machine; do
    IFS='=' read -r name role address <<<"$machine"
    mkdir -p "$folder/$name"
    make_key "$folder/$name/ssh_host_ed25519_key"
    hosts+="$address $name # skein $role"$'\n'
    all+="$name,$address $key"$'\n'
    [ "$role" != mirror ] || mirrors+="$name,$address $key"$'\n'
    make_key "$folder/$name/id_ed25519"
    case $role in
      server) operators+=$key$'\n' ;;
      mirror | target) users+=$key$'\n' ;;
    esac
  done
  for machine; do
    IFS='=' read -r name role address <<<"$machine"
    put "$folder/$name/hosts" "$hosts"
    case $role in
      server) put "$folder/$name/known_hosts" "$all" ;;
      *) put "$folder/$name/known_hosts" "$mirrors" ;;
    esac
    case $role in
      mirror) put "$folder/$name/authorized_keys" "$operators$users" ;;
      *) put "$folder/$name/authorized_keys" "$operators" ;;
    esac
  done
}

# Set `key` to a public key, made where there is none. Machines may start side by side, each with a run of this: a key is
# made aside and linked in place, and the first wins.
make_key() {
  local kind text
  if [ ! -e "$1" ]; then
    ssh-keygen -q -t ed25519 -N '' -C skein -f "$1.$$"
    if ln "$1.$$" "$1" 2>/dev/null; then ln -f "$1.$$.pub" "$1.pub"; fi
    rm "$1.$$" "$1.$$.pub"
  fi
  [ -e "$1.pub" ] || put "$1.pub" "$(ssh-keygen -y -f "$1")"$'\n'
  read -r kind text _ <"$1.pub"
  key="$kind $text"
}

# Write a file that others may be reading.
put() {
  printf %s "$2" >"$1.$$"
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

# Give a machine its identity, tell it whom to know and to let in, and what to serve. The user deploy must exist.
settle() {
  local role=$1 keys=$2 root=$3 operator=$4 uid gid home others
  install -m 600 "$keys"/ssh_host_ed25519_key{,.pub} "$root/etc/ssh"
  others=$(sed '/ # skein /d' "$root/etc/hosts")
  printf '%s\n' "$others" "$(<"$keys/hosts")" >"$root/etc/hosts"
  find_user deploy
  install -m 600 -o "$uid" -g "$gid" "$keys/authorized_keys" "$home/.ssh"
  [ "$role" = server ] || chown "$uid:$gid" "$root/srv"
  [ "$role" != server ] || find_user "$operator"
  install -m 600 -o "$uid" -g "$gid" "$keys"/{id_ed25519,id_ed25519.pub,known_hosts} "$home/.ssh"
  case $role in
    target) web_server >"$root/etc/nginx/nginx.conf" ;;
    balancer) balancer >"$root/etc/haproxy/haproxy.cfg" ;;
  esac
}

# Set uid, gid and home of a user of the machine below `root`, and make sure of a folder for keys.
find_user() {
  IFS=: read -r _ _ uid gid _ home _ < <(grep "^$1:" "$root/etc/passwd")
  home=$root$home
  install -d -m 700 -o "$uid" -g "$gid" "$home/.ssh"
}

web_server() {
  cat <<END
user www-data;
pid /run/nginx.pid;
error_log stderr;
events {}
http {
  include mime.types;
  access_log off;
  server {
    listen 80;
    root $app/current;
  }
}
END
}

balancer() {
  cat <<END
global
  user haproxy
  group haproxy
  stats socket /run/haproxy/admin.sock mode 600 level admin user deploy group deploy
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend web
  bind :80
  default_backend targets
backend targets
  balance roundrobin
END
  sed -nE 's/^(\S+) (\S+) # skein target$/  server \2 \1:80/p' "$root/etc/hosts"
}

make_server() {
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
  keys) make_keys "${@:2}" ;;
  settle) settle "${@:2}" ;;
  server | mirror | target | balancer)
    packages=(git openssh-server python3 rsync)
    case $1 in
      server) packages+=(curl python3-venv) ;;
      target) packages+=(nginx) ;;
      balancer) packages+=(haproxy) ;;
    esac
    install_packages "${packages[@]}"
    id deploy >/dev/null 2>&1 || useradd --create-home --shell /bin/bash deploy
    settle "$1" /opt/skein-keys '' vagrant
    systemctl reload ssh
    case $1 in
      server) make_server ;;
      target) systemctl reload-or-restart nginx ;;
      balancer) systemctl reload-or-restart haproxy ;;
    esac
    ;;
  *)
    echo "usage: provision.sh keys FOLDER NAME=ROLE=ADDRESS... | server | mirror | target | balancer" >&2
    exit 2
    ;;
esac
