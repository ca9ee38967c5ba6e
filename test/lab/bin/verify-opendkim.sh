# Verifies every file of a folder as the opendkim filter does: a line "NAME ok" or "NAME why not". Its own resolver asks no
# server on loopback, so that it gets the keys in a file.
cd "$1"
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
for s in rsa ed; do echo "$s._domainkey.origin.test $(dig +short TXT $s._domainkey.origin.test | sed 's/" "//g; s/"//g')"; done > "$work/keys"
printf 'Mode v\nTestPublicKeys %s\n' "$work/keys" > "$work/conf"
ls | xargs -n 100 | tr ' ' , | while read -r files; do opendkim -x "$work/conf" -t "$files" 2>&1; done |
  sed -E 's/^opendkim: //; s/^([^ ]*): verification \([^)]*\) succeeded$/\1 ok/; s/^([^ ]*): /\1 /'
