#!/usr/bin/env bash
# The first process of the bench's namespaces: private loopback network, the
# peers' files laid over /usr, /etc and /var, one resolver for all, and then
# the harness. Everything it writes outside /run/bench goes to memory and ends
# with it; the spools are on the disk of the checkout (/run/bench/spool).
set -euo pipefail
mount --make-rprivate /
mount -t proc proc /proc
ip link set lo up
ip addr add 198.18.0.1/32 dev lo # OpenSMTPD looks for addresses only when an interface has one outside 127/8
ip route add local 198.18.0.0/15 dev lo # RFC 2544: addresses for benchmarks

mount -t tmpfs -o mode=755 tmpfs /run
B=/run/bench
mkdir -p $B/{root,work,conf,ov,spool,haraka,bin,out}
mount --bind "$LAB/root" $B/root
for d in spool haraka bin out; do mount --bind "$BENCH/.work/$d" $B/$d; done
cp -R --no-preserve=ownership "$BENCH/peers/." $B/conf # Exim and Postfix want files of root
chmod -R u=rwX,go=rX $B/conf
chmod 755 $B/spool
mkdir -p $B/spool/opensmtpd
mkdir -p $B/ov/{etc,etcw,var,varw}
mount -t overlay -o "lowerdir=$B/root/usr:/usr" overlay /usr
mount -t overlay -o "lowerdir=$B/root/etc:/etc,upperdir=$B/ov/etc,workdir=$B/ov/etcw" overlay /etc
mount -t overlay -o "lowerdir=$B/root/var:/var,upperdir=$B/ov/var,workdir=$B/ov/varw" overlay /var
ldconfig 2>/dev/null || :
mkdir -p /var/spool/smtpd
mount --bind $B/spool/opensmtpd /var/spool/smtpd

account() {
  grep -q "^$1:" /etc/passwd || echo "$1:x:$2:$2::/nonexistent:/usr/sbin/nologin" >>/etc/passwd
  grep -q "^$1:" /etc/group || echo "$1:x:$2:" >>/etc/group
}
account postfix 20101; account postdrop 20102; account Debian-exim 20103
account opensmtpd 20104; account opensmtpq 20105; account _chasquid 20108
rm -f /etc/resolv.conf
echo 'nameserver 127.0.0.1' >/etc/resolv.conf
printf '127.0.0.1 localhost\n' >/etc/hosts
echo relay.bench.test >/etc/mailname
mkdir -p /etc/postfix
printf 'compatibility_level = 3.6\ninet_protocols = ipv4\nmyhostname = source.bench.test\n' >/etc/postfix/main.cf # for smtp-source

# ---- the keys of the peers that sign, and their records ----
mkdir -p $B/dkim
openssl genpkey -algorithm ed25519 -out $B/dkim/ed.pem
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out $B/dkim/rsa.pem 2>/dev/null
chmod 600 $B/dkim/*.pem
ed=$(openssl pkey -in $B/dkim/ed.pem -pubout -outform DER | tail -c 32 | base64 -w0)
rsa=$(openssl pkey -in $B/dkim/rsa.pem -pubout -outform DER | base64 -w0)

# ---- one resolver for all: unbound, which a mail server of some size has beside it ----
{
  echo 'server:'
  echo ' interface: 127.0.0.1@53'
  echo ' do-daemonize: no'
  echo ' do-ip6: no'
  echo ' use-syslog: no'
  echo " logfile: \"$B/unbound.log\""
  echo ' username: ""'
  echo ' chroot: ""'
  echo " directory: \"$B\""
  echo " pidfile: \"$B/unbound.pid\""
  echo ' module-config: "iterator"'
  echo ' num-threads: 1'
  echo ' local-zone: "." static' # no name but these exists
  echo ' local-data: "relay.bench.test. 3600 A 198.18.0.1"'
  echo ' local-data-ptr: "198.18.0.1 3600 relay.bench.test"'
  echo ' local-data: "bench.test. 3600 MX 10 mx0.bench.test."'
  echo " local-data: 'ed._domainkey.bench.test. 3600 TXT \"v=DKIM1; k=ed25519; p=$ed\"'"
  echo " local-data: 'rsa._domainkey.bench.test. 3600 TXT \"v=DKIM1; k=rsa; p=${rsa:0:200}\" \"${rsa:200}\"'"
  echo ' local-data: "one.bench.test. 3600 MX 10 mx0.bench.test."'
  for i in $(seq 0 19); do echo " local-data: \"mx$i.bench.test. 3600 A 198.18.1.$((i + 1))\""; done
  for i in $(seq 0 999); do
    echo " local-data: \"c$i.bench.test. 3600 MX 10 mx0.bench.test.\""          # case c: one MX set
    echo " local-data: \"d$i.bench.test. 3600 MX 10 mx$((i % 20)).bench.test.\"" # case d: 20 of them
  done
  printf 'remote-control:\n control-enable: no\n'
} >$B/unbound.conf
unbound -d -c $B/unbound.conf &

args=(-rounds "$ROUNDS" -n "$N" -cases "$CASES" -peers "$PEERS" -out $B/out/RESULTS.md)
[ -z "$PROFILE" ] || args+=(-profile "$PROFILE")
$B/bin/bench "${args[@]}" &
wait $!
