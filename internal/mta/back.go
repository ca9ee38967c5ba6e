package mta

// CameBack reports whether a bounced record tells of mail that was handed over
// and came back later; the others tell of a report that we made.
func (r *Record) CameBack() bool { return r.Event == EventBounced && r.Class != "" }
