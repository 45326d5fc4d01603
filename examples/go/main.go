// Answers itself over HTTP on a free port of the loopback device, and says where it runs.
package main

import (
	"bufio"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
)

// debianVersion reads VERSION_ID from /etc/os-release.
func debianVersion() (string, error) {
	file, err := os.Open("/etc/os-release")
	if err != nil {
		return "", err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if value, found := strings.CutPrefix(lines.Text(), "VERSION_ID="); found {
			return strings.Trim(value, `"`), nil
		}
	}
	return "?", lines.Err()
}

func main() {
	version, err := debianVersion()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("inside Debian %s\n%s\n", version, runtime.Version())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "42")
	}))
	response, err := http.Get("http://" + listener.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	response.Body.Close()
	fmt.Printf("answered: %d\n", response.StatusCode)
}
