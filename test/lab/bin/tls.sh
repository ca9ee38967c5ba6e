# Domains that tell the outcomes of DANE, MTA-STS and plain STARTTLS apart (tls*_test.go says what must become of each).
# Sourced by gen.sh. The hosts are listeners of Postfix (peers/postfix.sh) and the proxies of tlsproxy_test.go.
#  dane.test  signed     sts.test, plain.test  not signed     dyn.test  answered by tlsworld_test.go, as each test wants
# A domain NAME has one host mx-NAME. Everything that arrives is in mail/pf/tls.

# ---- certificates: expired, of another name, of an unknown authority, without its authority in the chain ----
mkcert othername mx.othername.test nexthop.dane.test
mkcert stsdyn mta-sts.{cached,lost,broken,kept}.dyn.test
if [ ! -e pki/certexpired.pem ]; then
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=mx.dane.test -keyout pki/certexpired.key -out pki/certexpired.csr 2>/dev/null
  : > pki/index; echo 77 > pki/serial
  openssl ca -batch -notext -config <(printf '[ca]\ndefault_ca=c\n[c]\ndatabase=pki/index\nserial=pki/serial\nnew_certs_dir=pki\ndefault_md=sha256\npolicy=p\nx509_extensions=x\n[p]\ncommonName=supplied\n[x]\nsubjectAltName=DNS:*.dane.test,DNS:*.sts.test,DNS:*.plain.test\nextendedKeyUsage=serverAuth\n') \
    -cert pki/ca.pem -keyfile pki/ca.key -startdate 20240101000000Z -enddate 20250101000000Z -in pki/certexpired.csr -out pki/certexpired.leaf 2>/dev/null
  cat pki/certexpired.leaf pki/ca.pem > pki/certexpired.pem
fi
[ -e pki/unknownca.pem ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=mx.unknown.test -addext subjectAltName=DNS:*.dane.test,DNS:*.sts.test -keyout pki/unknownca.key -out pki/unknownca.pem 2>/dev/null
chmod 600 pki/*.key
sum(){ openssl dgst -$1 -r | cut -d' ' -f1; }   # sha256|sha512
hex(){ od -An -v -tx1 | tr -d ' \n'; }
certder(){ openssl x509 -in "$1" -outform DER; }
keyder(){ openssl x509 -in "$1" -noout -pubkey | openssl pkey -pubin -outform DER; }

# ---- the signed zone ----
NO=$(printf 0%.0s {1..64})   # matches nothing
host(){ # NAME ADDRESS TLSA...: a host mx-NAME and its TLSA records
  local n=$1 ip=$2; shift 2; echo "mx-$n A $ip"; for r; do echo "_25._tcp.mx-$n TLSA $r"; done; }
dom(){ echo "$1 MX 10 mx-$1"; host "$@"; }
sts(){ echo "_mta-sts.$1 TXT \"v=STSv1; id=1\""; echo "mta-sts.$1 A ${2:-$STS_IP}"; }
policy(){ # DOMAIN MODE MX...
  { printf 'version: STSv1\r\nmode: %s\r\n' $2; printf 'mx: %s\r\n' "${@:3}"; printf 'max_age: 86400\r\n'; } > sts/mta-sts.$1; }
mkdir -p sts
{ dom ee311 $PF_IP "3 1 1 $PFPIN"
  dom ee312 $PF_IP "3 1 2 $(keyder pki/pf.leaf | sum sha512)"
  dom ee310 $PF_IP "3 1 0 $(keyder pki/pf.leaf | hex)"
  dom ee301 $PF_IP "3 0 1 $(certder pki/pf.leaf | sum sha256)"
  dom ee300 $PF_IP "3 0 0 $(certder pki/pf.leaf | hex)"
  dom ta211 $PF_IP "2 1 1 $CAPIN"
  dom ta212 $PF_IP "2 1 2 $(keyder pki/ca.pem | sum sha512)"
  dom ta201 $PF_IP "2 0 1 $(certder pki/ca.pem | sum sha256)"
  dom ta200 $PF_IP "2 0 0 $(certder pki/ca.pem | hex)"
  dom gnutls $EXIM_IP "3 1 1 $(spki pki/exim.leaf)"
  dom rollover $PF_IP "3 1 1 $NO" "3 1 1 $PFPIN"
  dom twousages $PF_IP "2 1 1 $NO" "3 1 1 $PFPIN"
  dom wrong $PF_IP "3 1 1 $NO"
  dom wrongta $PF_IP "2 1 1 $NO"
  dom wrongkind $PF_IP "3 0 1 $PFPIN"                   # the right digest, of another part
  dom unusable $PF_IP "9 9 9 00"
  dom pkix $PF_IP "1 1 1 $NO"                           # usages 0 and 1 are not for mail (RFC 7672 3.1.3)
  dom short $PF_IP "3 1 1 ${NO:0:40}"                   # not the length of its digest
  dom wrongmix $PF_IP "3 1 1 $NO" "9 9 9 00"
  dom rightmix $PF_IP "9 9 9 00" "1 1 1 $NO" "3 1 1 $PFPIN"
  dom expiredee $TLS_EXPIRED_IP "3 1 1 $(spki pki/certexpired.leaf)"
  dom expiredta $TLS_EXPIRED_IP "2 1 1 $CAPIN"
  dom othernameee $TLS_OTHER_IP "3 1 1 $(spki pki/othername.leaf)"
  dom othernameta $TLS_OTHER_IP "2 1 1 $CAPIN"
  dom nexthop $TLS_OTHER_IP "2 1 1 $CAPIN"              # the certificate is for the recipients' domain
  dom agility $PF_IP "3 1 1 $PFPIN" "3 1 2 $NO$NO"      # the stronger digest counts alone (RFC 7671 9)
  dom agilityshort $PF_IP "3 1 1 $PFPIN" "3 1 2 $NO"    # unless it is none
  dom selfsigned $TLS_UNKNOWN_IP "3 1 1 $(spki pki/unknownca.pem)"
  dom leafta211 $TLS_LEAF_IP "2 1 1 $CAPIN"             # the authority is not in the chain that is sent
  dom leafta200 $TLS_LEAF_IP "2 0 0 $(certder pki/ca.pem | hex)"
  dom notls $TLS_NONE_IP "3 1 1 $PFPIN"
  dom notlsa $PF_IP; dom clear $TLS_NONE_IP
  dom strip $STRIP_IP "3 1 1 $PFPIN"; dom refuse $REFUSE_IP "3 1 1 $PFPIN"; dom close $CLOSE_IP "3 1 1 $PFPIN"
  dom requires $REQUIRE_IP "3 1 1 $PFPIN"; dom requiresnot $REQUIRE_IP "3 1 1 $NO"   # tlsrequire_test.go
  # aliases: of the host within the zone and out of it, and of the TLSA record
  echo "alias MX 10 mx-alias"; echo "mx-alias CNAME mx-ee311"
  echo "aliasown MX 10 mx-aliasown"; echo "mx-aliasown CNAME mx-notlsa"; echo "_25._tcp.mx-aliasown TLSA 3 1 1 $PFPIN"
  echo "aliasownwrong MX 10 mx-aliasownwrong"; echo "mx-aliasownwrong CNAME mx-notlsa"; echo "_25._tcp.mx-aliasownwrong TLSA 3 1 1 $NO"
  echo "aliastarget MX 10 mx-aliastarget"; echo "mx-aliastarget CNAME mx-wrong"; echo "_25._tcp.mx-aliastarget TLSA 3 1 1 $PFPIN"   # the target's records count
  echo "aliasout MX 10 mx-aliasout"; echo "mx-aliasout CNAME mx-target.plain.test."; echo "_25._tcp.mx-aliasout TLSA 3 1 1 $PFPIN"
  echo "aliasoutwrong MX 10 mx-aliasoutwrong"; echo "mx-aliasoutwrong CNAME mx-target.plain.test."; echo "_25._tcp.mx-aliasoutwrong TLSA 3 1 1 $NO"
  echo "aliasoutlame MX 10 mx-aliasoutlame"; echo "mx-aliasoutlame CNAME mx-target.plain.test."; echo "_tcp.mx-aliasoutlame NS dead.nic.test."
  echo "tlsaalias MX 10 mx-tlsaalias"; echo "mx-tlsaalias A $PF_IP"; echo "_25._tcp.mx-tlsaalias CNAME _pin"; echo "_pin TLSA 3 1 1 $PFPIN"
  echo "tlsaaliaswrong MX 10 mx-tlsaaliaswrong"; echo "mx-tlsaaliaswrong A $PF_IP"; echo "_25._tcp.mx-tlsaaliaswrong CNAME _wrongpin"; echo "_wrongpin TLSA 3 1 1 $NO"
  # the TLSA records of mx-servfail are in a zone whose signatures have expired
  dom servfail $PF_IP; echo "_tcp.mx-servfail NS a.nic.test."
  # a better host that cannot be trusted, and one beside it that can
  echo "wrongfirst MX 10 mx-wrong"; echo "wrongfirst MX 20 mx-ee311"
  echo "servfailfirst MX 10 mx-servfail"; echo "servfailfirst MX 20 mx-ee311"
  echo "wrongboth MX 10 mx-wrong"; echo "wrongboth MX 20 mx-expiredta"
  echo "foreign MX 10 mx-tlsa.plain.test."              # a signed MX to a host of a zone that is not
  # DANE beside MTA-STS: DANE alone counts, as long as a record is usable
  dom ststoo $PF_IP "3 1 1 $PFPIN"; sts ststoo; policy ststoo.dane.test enforce mx.elsewhere.test
  dom stsonly $PF_IP "3 1 1 $NO"; sts stsonly; policy stsonly.dane.test enforce mx-stsonly.dane.test
} | zone dane.test.
echo "_25 TLSA 3 1 1 $PFPIN" | zone _tcp.mx-servfail.dane.test.
signz _tcp.mx-servfail.dane.test. "$(date -u -d '-2 days' +%Y%m%d%H%M%S)"; ds _tcp.mx-servfail.dane.test. >> zones/dane.test.zone

# ---- the zones that are not signed ----
enforced(){ # NAME ADDRESS: one host, which the policy names
  dom $1 $2; sts $1; policy $1.sts.test enforce mx-$1.sts.test; }
{ enforced ok $PF_IP; enforced othername $TLS_OTHER_IP; enforced expired $TLS_EXPIRED_IP; enforced unknownca $TLS_UNKNOWN_IP
  enforced notls $TLS_NONE_IP; enforced tlsbroken $TLSBROKEN_IP
  enforced strip $STRIP_IP; enforced refuse $REFUSE_IP; enforced close $CLOSE_IP
  enforced requires $REQUIRE_IP   # tlsrequire_test.go
  dom wild $PF_IP; sts wild; policy wild.sts.test enforce '*.sts.test'
  dom mismatch $PF_IP; sts mismatch; policy mismatch.sts.test enforce mx.elsewhere.test
  echo "second MX 10 mx-mismatch"; echo "second MX 20 mx-ok"; sts second; policy second.sts.test enforce mx-ok.sts.test
  dom testing $PF_IP; sts testing; policy testing.sts.test testing mx-testing.sts.test
  dom testingbad $TLS_EXPIRED_IP; sts testingbad; policy testingbad.sts.test testing mx-testingbad.sts.test
  dom testingmismatch $PF_IP; sts testingmismatch; policy testingmismatch.sts.test testing mx.elsewhere.test
  dom testingstrip $STRIP_IP; sts testingstrip; policy testingstrip.sts.test testing mx-testingstrip.sts.test
  dom none $TLS_OTHER_IP; sts none; policy none.sts.test none mx.elsewhere.test
  dom down $TLS_OTHER_IP; sts down $DEAD_IP             # the policy cannot be fetched: as if there were none
  dom missing $TLS_OTHER_IP; sts missing
  dom badcert $TLS_OTHER_IP; sts badcert; policy badcert.sts.test enforce mx.elsewhere.test   # the policy host's certificate lacks the name
  dom norecord $TLS_OTHER_IP; echo "mta-sts.norecord A $STS_IP"; policy norecord.sts.test enforce mx.elsewhere.test   # without the TXT record nothing is fetched
} | zone sts.test.
{ dom clear $TLS_NONE_IP; dom anycert $TLS_UNKNOWN_IP; dom expired $TLS_EXPIRED_IP
  dom strip $STRIP_IP; dom refuse $REFUSE_IP; dom close $CLOSE_IP
  dom requires $REQUIRE_IP
  dom tlsa $PF_IP "3 1 1 $NO"; dom target $PF_IP        # records that nothing vouches for
  echo "insecuremx MX 10 mx-wrong.dane.test."           # a host with wrong records, named by an MX that nothing vouches for
  dom servfail $PF_IP; echo "_tcp.mx-servfail NS dead.nic.test."   # name servers that fail at odd names, which nobody must ask
} | zone plain.test.
SIGNED="$SIGNED dane.test."; INSECURE="$INSECURE sts.test. plain.test."
