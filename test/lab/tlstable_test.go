package lab

import "slices"

// tlsCase is a domain of bin/tls.sh (or one that the lab has besides), and what
// must become of mail to it.
type tlsCase struct {
	domain   string
	event    string // the first event after accepted
	verified string // how the server was authenticated: "dane", "pkix" or not
	demanded string // who demanded more than the default
	clear    bool   // delivered in clear text
	// why are words that a deferral's reason has: the policy and the host.
	why []string
	// What posttls-finger says of the first host, and whether Postfix sent the
	// mail; empty: they are not asked.
	finger, postfix string
}

// What posttls-finger says.
const (
	fingerVerified  = "verified"   // a TLSA record matched
	fingerUntrusted = "untrusted"  // TLS, and no TLSA record matched or there is none
	fingerNone      = "no TLS"     // no session with TLS
	fingerLookup    = "no look-up" // DNS gave no answer that could be used
)

// daneMatches are hosts that a TLSA record authenticates.
var daneMatches = []string{
	"pf.test", "chasquid.test", "daneta.test", "gnutls.dane.test",
	"ee311.dane.test", "ee312.dane.test", "ee310.dane.test", "ee301.dane.test", "ee300.dane.test",
	"ta211.dane.test", "ta212.dane.test", "ta201.dane.test", "ta200.dane.test", "leafta200.dane.test",
	"rollover.dane.test", "twousages.dane.test", "rightmix.dane.test",
	"expiredee.dane.test", "othernameee.dane.test", "selfsigned.dane.test", "nexthop.dane.test", "agilityshort.dane.test",
	"alias.dane.test", "aliasown.dane.test", "aliasout.dane.test", "tlsaalias.dane.test",
	"ststoo.dane.test", // its MTA-STS policy names another host, and does not count
}

// daneMismatches are hosts that no TLSA record authenticates, though one could.
var daneMismatches = []string{
	"danebad.test",
	"wrong.dane.test", "wrongta.dane.test", "wrongkind.dane.test", "wrongmix.dane.test",
	"expiredta.dane.test", "othernameta.dane.test", "leafta211.dane.test", "agility.dane.test",
	"aliasownwrong.dane.test", "aliastarget.dane.test", "aliasoutwrong.dane.test", "tlsaaliaswrong.dane.test",
	"stsonly.dane.test", // its MTA-STS policy is kept, which does not help
}

// daneUnusable are hosts all of whose TLSA records say nothing.
var daneUnusable = []string{"daneunusable.test", "unusable.dane.test", "pkix.dane.test", "short.dane.test"}

// host is the only host of a domain of bin/tls.sh.
func (c *tlsCase) host() string {
	switch c.domain {
	case "pf.test", "chasquid.test", "exim.test", "danebad.test", "daneta.test", "daneunusable.test", "osmtpd.test", "tlsbroken.test":
		return "mx." + c.domain
	case "stsbad.test", "ststest.test":
		return "mx.exim.test"
	case "aliastarget.dane.test":
		return "mx-wrong.dane.test"
	case "wrongboth.dane.test":
		return "mx-expiredta.dane.test" // the one that was tried last
	case "bogus.test", "expired.test":
		return ""
	}
	return "mx-" + c.domain
}

// daneCases are the outcomes of RFC 7672.
func daneCases() []tlsCase {
	var all []tlsCase
	for _, d := range daneMatches {
		all = append(all, tlsCase{domain: d, event: "delivered", verified: "dane", demanded: "dane", finger: fingerVerified, postfix: "sent"})
	}
	for _, d := range daneMismatches {
		all = append(all, tlsCase{domain: d, event: "deferred", demanded: "dane", why: []string{"TLSA"}, finger: fingerUntrusted, postfix: "deferred"})
	}
	for _, d := range daneUnusable {
		all = append(all, tlsCase{domain: d, event: "delivered", demanded: "dane", finger: fingerUntrusted, postfix: "sent"})
	}
	return append(all, []tlsCase{
		// The host has the records and no TLS, or somebody on the way takes it.
		{domain: "notls.dane.test", event: "deferred", demanded: "dane", why: []string{"TLSA"}, finger: fingerNone, postfix: "deferred"},
		{domain: "strip.dane.test", event: "deferred", demanded: "dane", why: []string{"TLSA"}, finger: fingerNone, postfix: "deferred"},
		{domain: "refuse.dane.test", event: "deferred", demanded: "dane", why: []string{"TLSA"}, finger: fingerNone, postfix: "deferred"},
		{domain: "close.dane.test", event: "deferred", demanded: "dane", why: []string{"TLSA"}, finger: fingerNone, postfix: "deferred"},
		// A signed domain without records: what any domain gets.
		{domain: "notlsa.dane.test", event: "delivered", finger: fingerUntrusted, postfix: "sent"},
		{domain: "clear.dane.test", event: "delivered", clear: true, finger: fingerNone, postfix: "sent"},
		// What DNS cannot say for certain, where it must be certain.
		{domain: "bogus.test", event: "deferred", why: []string{"bogus.test"}, finger: fingerLookup, postfix: "deferred"},
		{domain: "expired.test", event: "deferred", why: []string{"expired.test"}, finger: fingerLookup, postfix: "deferred"},
		{domain: "servfail.dane.test", event: "deferred", why: []string{"TLSA", "mx-servfail.dane.test"}, finger: fingerLookup, postfix: "deferred"},
		// The host's own name is signed, though where it leads to is not.
		{domain: "aliasoutlame.dane.test", event: "deferred", why: []string{"TLSA", "mx-aliasoutlame.dane.test"}, finger: fingerLookup, postfix: "deferred"},
		// A better host that fails its records leaves the mail to the next.
		{domain: "servfailfirst.dane.test", event: "delivered", verified: "dane", demanded: "dane", finger: fingerVerified, postfix: "sent"},
		{domain: "wrongfirst.dane.test", event: "delivered", verified: "dane", demanded: "dane", finger: fingerUntrusted, postfix: "sent"},
		{domain: "wrongboth.dane.test", event: "deferred", demanded: "dane", why: []string{"TLSA"}, finger: fingerUntrusted, postfix: "deferred"},
		// Records that nobody vouches for are as if they were not there: of a
		// zone without signatures, and of a host named by one.
		{domain: "foreign.dane.test", event: "delivered", finger: fingerUntrusted, postfix: "sent"},
		{domain: "tlsa.plain.test", event: "delivered", finger: fingerUntrusted, postfix: "sent"},
		{domain: "servfail.plain.test", event: "delivered", finger: fingerUntrusted, postfix: "sent"},
		// Here Postfix does more than it must by default
		// (smtp_tls_dane_insecure_mx_policy = dane): it holds a host to its
		// records though whoever named the host could as well have named
		// another (RFC 7672 2.2.1 leaves it to the sender).
		{domain: "insecuremx.plain.test", event: "delivered", finger: fingerUntrusted, postfix: "deferred"},
	}...)
}

// stsCases are the outcomes of RFC 8461.
func stsCases() []tlsCase {
	var all []tlsCase
	for _, d := range []string{"exim.test", "ok.sts.test", "wild.sts.test", "second.sts.test"} {
		all = append(all, tlsCase{domain: d, event: "delivered", verified: "pkix", demanded: "mta-sts"})
	}
	for _, d := range []string{
		"stsbad.test", "mismatch.sts.test", // the policy does not name the host
		"othername.sts.test", "expired.sts.test", "unknownca.sts.test", // the certificate is no good
		"notls.sts.test", "tlsbroken.sts.test", "strip.sts.test", "refuse.sts.test", "close.sts.test", // there is no TLS to be had
	} {
		all = append(all, tlsCase{domain: d, event: "deferred", demanded: "mta-sts", why: []string{"MTA-STS", d}})
	}
	for _, d := range []string{
		"ststest.test", "testing.sts.test", "testingbad.sts.test", "testingmismatch.sts.test", // nothing is enforced
		"none.sts.test",                                                              // no policy, said aloud
		"down.sts.test", "missing.sts.test", "badcert.sts.test", "norecord.sts.test", // a policy that was never had
	} {
		all = append(all, tlsCase{domain: d, event: "delivered"})
	}
	return append(all, tlsCase{domain: "testingstrip.sts.test", event: "delivered", clear: true})
}

// plainCases are domains without any policy: mail goes, in clear text if it
// must.
func plainCases() []tlsCase {
	var all []tlsCase
	for _, d := range []string{"anycert.plain.test", "expired.plain.test"} {
		all = append(all, tlsCase{domain: d, event: "delivered"})
	}
	for _, d := range []string{"clear.plain.test", "strip.plain.test", "refuse.plain.test", "close.plain.test", "osmtpd.test", "tlsbroken.test"} {
		all = append(all, tlsCase{domain: d, event: "delivered", clear: true})
	}
	return all
}

func tlsCases() []tlsCase { return slices.Concat(daneCases(), stsCases(), plainCases()) }
