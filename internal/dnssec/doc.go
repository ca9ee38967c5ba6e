// Package dnssec checks the signatures of DNS answers (RFC 4033 to 4035, 5155,
// 6840, 9276): from trust anchors, through the DS and DNSKEY records of every
// zone cut, down to the records of an answer, or to the proof that there are
// none. Its caller is package dns, which gives it messages and a [Source] that
// asks for more; nothing else is asked, written or logged here.
//
// It must not decide what a verdict means for mail: bogus is a failed look-up
// to package dns, and a deferral to everybody above.
//
// # How
//
// A message is taken apart into record sets. Each signed one names its signer;
// [Validator] builds the chain from the nearest anchor to that zone, label by
// label: the DS set of a name is a zone cut to be followed, its proved absence
// with NS records an insecure delegation, its proved absence without them no
// cut. What has no signature must be proved to lie in an insecure zone, by the
// same walk. A denial is proved by the NSEC or NSEC3 records of the message.
// Secure is what is proved all the way. Of several parts the worst counts.
//
// # Bounds
//
// The work of one look-up is bounded, because a stranger chooses keys and
// signatures (CVE-2023-50387, CVE-2023-50868): 48 signatures checked, 4 tries
// for one record set, 32 queries, 64 keys in a zone and 16 DS records at a cut,
// 12,000 rounds of SHA-1 for NSEC3. What would take more is bogus. Zones that
// ask for more than 100 NSEC3 iterations are insecure (RFC 9276 3.2), and so are
// those signed only with algorithms or key sizes that are not checked here:
// RSA under 1,024 bits, DSA, GOST, Ed448. At most 8,192 names of zones, with
// about 16 MiB of keys, are remembered, none longer than its TTL, its signatures
// or a day; failures for five seconds.
//
// # Goroutines
//
// None are started. Callers that need the same zone at once wait for the one
// that came first.
package dnssec
