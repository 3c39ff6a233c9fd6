// Package loopback says what only this machine reaches: there plain text is no
// fault.
package loopback

import (
	"net"
	"net/netip"
)

// Host reports whether a host is this machine by its name or its address.
func Host(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// Addr reports whether only this machine reaches what listens on the address:
// a loopback address, a Unix socket, memory.
func Addr(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}
