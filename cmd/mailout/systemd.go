package main

import (
	"log/slog"
	"net"
	"os"

	"mailout/internal/mta"
)

// notifySystemd tells the service manager how the daemon stands
// (sd_notify(3)); without a manager it does nothing.
func notifySystemd(state string, log *slog.Logger) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	if path[0] == '@' { // an abstract socket
		path = "\x00" + path[1:]
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		log.Warn("systemd could not be notified", mta.KeyError, err)
		return
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(state)); err != nil {
		log.Warn("systemd could not be notified", mta.KeyError, err)
	}
}
