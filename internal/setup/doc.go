// Package setup guides through all that direct delivery needs, in the order in
// which one thing rests on another: router, DNS servers, host name, public
// address, records, port 25, DKIM key, postmaster, and where mail comes in and
// is kept. Each step shows the value now, says why it matters, and takes Enter
// for what it proposes. Every answer can be given beforehand; without somebody
// to ask, what Enter would give is taken.
//
// Nothing is written before the last step: directories, keys and then the
// configuration file, so that whoever stops on the way leaves no trace.
//
// It must not decide what a setting means (config does) or whether a finding is
// good (doctor does), and it sends no mail. `mailout setup` calls it. The
// prompts of a terminal wait in a goroutine of their own: it ends with the line
// that it waits for, or with the process.
package setup
