package mta

// The keys of log lines, so that one thing has one name in log, journal and
// JSON.
const (
	KeyID          = "id"
	KeyStream      = "stream"
	KeySender      = "sender"
	KeyRecipient   = "recipient"
	KeyDestination = "destination"
	KeySite        = "site"
	KeyHost        = "host"
	KeyIP          = "ip"
	KeySource      = "source"
	KeyStage       = "stage"
	KeyReply       = "reply"
	KeyReason      = "reason"
	KeyClass       = "class"
	KeyNext        = "next"
	KeyCount       = "count"
	KeySize        = "size"
	KeyPeer        = "peer"
	KeyListener    = "listener"
	KeyPath        = "path"
	KeyServer      = "server"
	KeyDuration    = "duration_ms"
	KeyError       = "error"
	KeyCheck       = "check"
	KeySubject     = "subject"
	KeyStatus      = "status"
	KeyWas         = "was"
	KeySeen        = "seen"
	KeyFix         = "fix"
)
