package mta

import "errors"

// TLSUnmet, as the Err of a failure to route, says that policies about TLS keep
// the mail from hosts of the recipient domain, so that reports can tell.
type TLSUnmet struct {
	Domain   string
	Hosts    []Host // each with its Failure
	Policies []TLSPolicy
	Err      error // the cause in Go's terms; may be nil
}

// Error implements error.
func (u *TLSUnmet) Error() string {
	if u.Err == nil {
		return "no mail server of " + u.Domain + " may be used"
	}
	return u.Err.Error()
}

// Unwrap gives the cause.
func (u *TLSUnmet) Unwrap() error { return u.Err }

// PolicyFault says why a policy about TLS keeps the mail from a host without
// addresses (RFC 8460 4.3.2); nil when something else does, or trouble of our own.
func PolicyFault(h *Host, policies []TLSPolicy) *TLSFault {
	if h.Failure == nil {
		return nil
	}
	// What failed is named by the look-up: records may stand at another name.
	if fault := (*TLSFault)(nil); errors.As(h.Failure.Err, &fault) {
		return fault
	}
	for i := range policies {
		if p := &policies[i]; p.Type == "sts" && len(p.Strings) > 0 && h.Failure.Cause == CauseTLSPolicy {
			return &TLSFault{Result: ResultValidation, Text: h.Failure.Text, Err: h.Failure}
		}
	}
	return nil
}
