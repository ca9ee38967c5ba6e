#!/bin/bash
# Dovecot's LMTP, for mailboxes_test.go; runs inside the lab: a socket $STATE/dovecot-lmtp/lmtp and 127.0.1.1:2424.
# box1, box2 and full (whose quota is used up) are users of boxes.test; everybody else is unknown.
set -eu
. "$LAB/lab.env"
exec >>$STATE/log/mailboxes.log 2>&1 </dev/null   # a daemon keeps what it is given
addu(){ grep -q "^$1:" /etc/passwd || echo "$1:x:$2:$2::/nonexistent:/usr/sbin/nologin" >> /etc/passwd; grep -q "^$1:" /etc/group || echo "$1:x:$2:" >> /etc/group; }
addu dovecot 20110; addu dovenull 20111
D=$STATE/dovecot-lmtp; mkdir -p $D/run $STATE/mail/boxes; chown vmail:vmail $STATE/mail/boxes; chmod 755 $D
for u in box1 box2; do echo "$u@boxes.test:::::::"; done > $D/users
echo "full@boxes.test:::::::userdb_quota_rule=*:bytes=1" >> $D/users
cat > $D/dovecot.conf <<Z
base_dir = $D/run
log_path = $STATE/log/dovecot-lmtp.log
protocols = lmtp
listen = 127.0.0.1
ssl = no
default_internal_user = dovecot
default_login_user = dovenull
default_internal_group = dovecot
mail_location = maildir:$STATE/mail/boxes/%u
mail_plugins = quota
plugin {
  quota = maildir:used
  quota_grace = 0
}
passdb {
  driver = passwd-file
  args = username_format=%u $D/users
}
userdb {
  driver = passwd-file
  args = username_format=%u $D/users
  default_fields = uid=20106 gid=20106 home=/tmp
}
service lmtp {
  unix_listener $D/lmtp {
    mode = 0666
  }
  inet_listener lmtp {
    address = 127.0.1.1
    port = 2424
  }
}
service anvil {
  chroot =
}
service stats {
  chroot =
}
Z
dovecot -c $D/dovecot.conf
