#!/bin/sh
# secrets.sh DIRECTORY NAME:UID...
#
# Makes what the examples need, once: two certificate authorities (one for connections, one with which servers of the
# cluster know each other, and for nothing else), a certificate for each NAME in DIRECTORY/NAME that only UID can read, and
# a password for the database. The keys of the authorities are destroyed: this is for trying things out. In earnest,
# certificates come from the authority that you run, and each machine has its own only.
set -eu
dir=$1
shift
cd "$dir"
[ ! -e done ] || exit 0
umask 077
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

ca() {
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 825 -subj "/CN=$1 (example)" \
		-addext 'keyUsage=critical,keyCertSign,cRLSign' -keyout "$work/$1.key" -out "$1.pem" 2>/dev/null
	chmod 644 "$1.pem"
}

# certificate AUTHORITY NAME FILE
certificate() {
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$2" -keyout "$2/$3.key" -out "$work/csr" 2>/dev/null
	printf 'subjectAltName=DNS:%s,DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n' "$2" >"$work/ext"
	openssl x509 -req -in "$work/csr" -CA "$1.pem" -CAkey "$work/$1.key" -CAcreateserial -CAserial "$work/serial" -days 825 \
		-extfile "$work/ext" -out "$2/$3.pem" 2>/dev/null
}

ca ca
ca nodes-ca
password=$(openssl rand -hex 24)
for pair in "$@"; do
	name=${pair%:*} uid=${pair#*:}
	mkdir "$name"
	certificate ca "$name" server
	case $name in
	node*)
		certificate nodes-ca "$name" node
		printf 'postgres://quorate:%s@postgres:5432/quorate?sslmode=verify-full&sslrootcert=%s/ca.pem\n' "$password" "$dir" >"$name/database-url"
		;;
	postgres) printf '%s' "$password" >"$name/password" ;;
	quorate) cat "$name/server.key" >>"$name/server.pem" ;; # HAProxy has both in one file
	esac
	[ "$(id -u)" != 0 ] || chown -R "$uid" "$name"
done
chmod 755 .
: >done
