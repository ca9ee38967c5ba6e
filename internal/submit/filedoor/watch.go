package filedoor

// Event is something that happens to a name in a directory; a set of them says
// what to tell.
type Event uint8

// The events.
const (
	Arrived Event = 1 << iota // a file was renamed to the name
	Written                   // a writer has closed the file
	Changed                   // the file was made, written to, or has lost the name
	Missed                    // without a name: others were lost; told unasked
)
