package doctor

import "slices"

// Status is the outcome of a check.
type Status string

// The statuses. A check that could not run is Unknown, never Pass and never
// Fail; one that has no meaning here (a reverse record when a router delivers)
// is Skip.
const (
	Pass    Status = "pass"
	Warn    Status = "warn"
	Fail    Status = "fail"
	Skip    Status = "skip"
	Unknown Status = "unknown"
)

// Who can make a fix.
type Who string

// Those who can.
const (
	You             Who = "you"     // on this machine
	DNSHost         Who = "dns"     // whoever hosts the zone
	AddressProvider Who = "address" // whoever gave the address: reverse records, port 25
	RouterProvider  Who = "router"  // whoever runs the router
	ListOperator    Who = "list"    // whoever runs the block list
)

// Check is one finding: one for each id and subject.
type Check struct {
	ID      string `json:"id"`
	Subject string `json:"subject"` // a host name, address, domain, server or path
	Status  Status `json:"status"`
	Asked   string `json:"asked"` // what was done to find out, for people
	Seen    string `json:"seen"`  // what came
	Why     string `json:"why"`   // the refusal or loss that this prevents
	Fix     *Fix   `json:"fix,omitempty"`
	Who     Who    `json:"who,omitempty"` // with Fix
}

// Fix is what mends it.
type Fix struct {
	// Record is the record to publish, in zone-file form on one line, names
	// absolute ("mailout.ofc.widget.com. IN A 203.0.113.5"); empty when none does.
	Record string `json:"record,omitempty"`
	// Command is a command to run; empty when none does.
	Command string `json:"command,omitempty"`
	Text    string `json:"text"` // one sentence, always there
}

// Report is an examination's result.
type Report struct {
	// Status is fail when a check failed, else warn when one warned or could
	// not run, else pass.
	Status Status  `json:"status"`
	Checks []Check `json:"checks"` // in the order of IDs, then of subjects

	stances []stance // for the guard; none when the sources were not looked at
}

// With is the report with findings of other parts behind its own.
func (r *Report) With(more ...Check) *Report {
	if len(more) == 0 {
		return r
	}
	out := *r
	out.Checks = append(slices.Clone(r.Checks), more...)
	out.Status = status(out.Checks)
	return &out
}

// status sums up.
func status(checks []Check) Status {
	s := Pass
	for _, c := range checks {
		switch c.Status {
		case Fail:
			return Fail
		case Warn, Unknown:
			s = Warn
		}
	}
	return s
}

// ExitStatus is what `mailout doctor` ends with: 0 fine, 1 warnings, 2 failures.
func (r *Report) ExitStatus() int {
	switch r.Status {
	case Fail:
		return 2
	case Warn:
		return 1
	}
	return 0
}

// Group is a heading under which checks are shown.
type Group string

// The groups, in their order: the three elements of direct delivery, and the rest.
const (
	GroupRouter   Group = "1. Mail router"
	GroupResolver Group = "2. DNS servers"
	GroupName     Group = "3. Host name and visible address"
	GroupRest     Group = "What receivers also want"
)

// IDs are all checks in the order in which they are shown, with their group.
// The names are fixed (docs/design.md, section 8).
var IDs = []struct {
	ID    string
	Group Group
}{
	{"router", GroupRouter}, {"router.name", GroupRouter}, {"router.tls", GroupRouter}, {"router.auth", GroupRouter},
	{"resolver.answers", GroupResolver}, {"resolver.external", GroupResolver}, {"resolver.tcp", GroupResolver},
	{"resolver.edns", GroupResolver}, {"resolver.honest", GroupResolver}, {"resolver.dnssec", GroupResolver},
	{"name.form", GroupName}, {"name.cname", GroupName}, {"address.public", GroupName}, {"address.record", GroupName},
	{"address.authoritative", GroupName},
	{"ptr.exists", GroupRest}, {"ptr.confirmed", GroupRest}, {"ptr.generic", GroupRest}, {"ipv6", GroupRest},
	{"port25", GroupRest}, {"port25.intercepted", GroupRest},
	{"spf.record", GroupRest}, {"spf.pass", GroupRest}, {"spf.host", GroupRest},
	{"dkim.key", GroupRest}, {"dkim.record", GroupRest}, {"dkim.verifies", GroupRest}, {"dkim.alignment", GroupRest},
	{"dmarc.record", GroupRest}, {"dmarc.alignment", GroupRest},
	{"records.doubled", GroupRest}, {"records.conflict", GroupRest}, {"bounce.domain", GroupRest}, {"blocklist", GroupRest},
	{"clock", GroupRest}, {"spool.sync", GroupRest}, {"spool.space", GroupRest}, {"files.limit", GroupRest},
}
