#!/bin/bash
# Routers with users, for routers_test.go; runs inside the lab: Postfix with Dovecot SASL (127.0.1.1:587), Postfix with Cyrus SASL
# (127.0.1.1:588), Exim with authenticators (127.0.1.2:587). The user is widget; each takes mail for far.test from users only.
# Usage: routers.sh PASSWORD INTROSPECTION_URL
set -eu
. "$LAB/lab.env"
PASS=$1 INTROSPECT=$2
exec >>$STATE/log/routers.log 2>&1 </dev/null   # daemons keep what they are given
addu(){ grep -q "^$1:" /etc/passwd || echo "$1:x:$2:$2::/nonexistent:/usr/sbin/nologin" >> /etc/passwd; grep -q "^$1:" /etc/group || echo "$1:x:$2:" >> /etc/group; }
addu dovecot 20110; addu dovenull 20111
mkmaster(){ echo "$1 inet n - n - - smtpd"; cat <<Z
pickup    unix  n - n 60 1 pickup
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 1 1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
proxymap  unix  - - n - - proxymap
virtual   unix  - n n - - virtual
anvil     unix  - - n - 1 anvil
postlog   unix-dgram n - n - 1 postlogd
Z
}
router(){ # NAME ADDRESS:PORT, further lines of main.cf on stdin
mkdir -p $STATE/$1/{conf,queue,data} $STATE/mail/$1; chown postfix $STATE/$1/data; chown vmail:vmail $STATE/mail/$1; chmod 755 $STATE/$1
mkmaster $2 > $STATE/$1/conf/master.cf
{ cat <<Z
compatibility_level = 3.6
mail_owner = postfix
setgid_group = postdrop
queue_directory = $STATE/$1/queue
data_directory = $STATE/$1/data
meta_directory = /etc/postfix
maillog_file = $STATE/log/$1.log
maillog_file_prefixes = $STATE
inet_protocols = ipv4
inet_interfaces = 127.0.0.1
myhostname = mx.pf.test
mydestination =
mynetworks = 127.0.0.99/32
alias_maps =
virtual_mailbox_domains = far.test
virtual_mailbox_base = $STATE/mail/$1
virtual_mailbox_maps = static:all/
virtual_uid_maps = static:20106
virtual_gid_maps = static:20106
virtual_minimum_uid = 1000
smtpd_tls_security_level = may
smtpd_tls_chain_files = $STATE/pki/pf.key $STATE/pki/pf.pem
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_security_options = noanonymous
smtpd_recipient_restrictions = permit_sasl_authenticated, reject
Z
cat; } > $STATE/$1/conf/main.cf
postfix -c $STATE/$1/conf start 2>&1 | grep -v master.cf: || :
}
# ---- Dovecot, for its SASL alone ----
mkdir -p $STATE/sasl-dovecot /run/dovecot-sasl
echo "widget:{PLAIN}$PASS::::::" > $STATE/sasl-dovecot/users; chmod 644 $STATE/sasl-dovecot/users
cat > $STATE/sasl-dovecot/oauth2.conf <<Z
introspection_url = $INTROSPECT
introspection_mode = post
username_attribute = username
active_attribute = active
active_value = true
Z
cat > $STATE/sasl-dovecot/dovecot.conf <<Z
base_dir = /run/dovecot-sasl
log_path = $STATE/log/sasl-dovecot.log
protocols =
listen = 127.0.0.1
ssl = no
default_internal_user = dovecot
default_login_user = dovenull
default_internal_group = dovecot
auth_mechanisms = plain login cram-md5 scram-sha-256 xoauth2 oauthbearer
passdb {
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = $STATE/sasl-dovecot/oauth2.conf
}
passdb {
  driver = passwd-file
  args = username_format=%u $STATE/sasl-dovecot/users
}
userdb {
  driver = static
  args = uid=20106 gid=20106 home=/tmp
}
service auth {
  unix_listener $STATE/sasl-dovecot/auth {
    mode = 0666
  }
}
service anvil {
  chroot =
}
service stats {
  chroot =
}
Z
dovecot -c $STATE/sasl-dovecot/dovecot.conf
printf 'smtpd_sasl_type = dovecot\nsmtpd_sasl_path = %s\n' $STATE/sasl-dovecot/auth | router router-dovecot $PF_IP:587
# ---- Cyrus: its database where it is by default, so that it needs no configuration ----
printf '%s\n' "$PASS" | saslpasswd2 -p -c -f /etc/sasldb2 -u far.test widget
chown postfix /etc/sasldb2
printf 'smtpd_sasl_type = cyrus\nsmtpd_sasl_path = smtpd\nsmtpd_sasl_local_domain = far.test\n' | router router-cyrus $PF_IP:588
# ---- Exim ----
mkdir -p $STATE/router-exim/spool $STATE/mail/router-exim; chown -R Debian-exim:Debian-exim $STATE/router-exim $STATE/mail/router-exim
cat > $STATE/router-exim/exim.conf <<Z
primary_hostname = mx.exim.test
local_interfaces = <; $EXIM_IP.587
daemon_smtp_ports = 587
disable_ipv6 = true
spool_directory = $STATE/router-exim/spool
log_file_path = $STATE/log/exim/router-%slog
pid_file_path = $STATE/router-exim/exim.pid
tls_advertise_hosts = *
tls_certificate = $STATE/pki/exim.pem
tls_privatekey = $STATE/exim/conf/key
auth_advertise_hosts = \${if eq{\$tls_in_cipher}{}{}{*}}
acl_smtp_rcpt = rcpt
begin acl
rcpt:
  accept authenticated = *
  deny message = 550 5.7.1 relay not permitted
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = \${if and{{eq{\$auth2}{widget}}{eq{\$auth3}{$PASS}}}}
  server_set_id = \$auth2
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = <| Username: | Password:
  server_condition = \${if and{{eq{\$auth1}{widget}}{eq{\$auth2}{$PASS}}}}
  server_set_id = \$auth1
cram:
  driver = cram_md5
  public_name = CRAM-MD5
  server_secret = \${if eq{\$auth1}{widget}{$PASS}fail}
  server_set_id = \$auth1
begin routers
all:
  driver = accept
  transport = file
begin transports
file:
  driver = appendfile
  directory = $STATE/mail/router-exim/all
  maildir_format
  create_directory
  user = Debian-exim
Z
grep -q router-exim /etc/exim4/trusted_configs || echo $STATE/router-exim/exim.conf >> /etc/exim4/trusted_configs
exim4 -C $STATE/router-exim/exim.conf -bd -q5m
