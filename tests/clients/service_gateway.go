// A gateway of Go's standard library alone: net/http in front, and a pool of keep-alive connections to one upstream
// service behind. Arguments and modes as in service_gateway.py.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
	"sync"
	"time"
)

const static = "5d0f63d1e1b14a0b9c1c"

var exchanged = map[string]string{"acme": "0c2f9d4a7be84c6cb1aa", "globex": "e91b7720c3f5409f8d5e"}

// What the service knows of its own work: a line per request, with its socket and the tenant it was for.
type truth struct {
	sync.Mutex
	file     *os.File
	ordinals map[int]int
}

func (t *truth) works(port int, tenant string) {
	t.Lock()
	defer t.Unlock()
	at := float64(time.Now().UnixMicro()) / 1e6
	line, _ := json.Marshal(map[string]any{"port": port, "ordinal": t.ordinals[port], "tenant": tenant, "at": at})
	t.ordinals[port]++
	fmt.Fprintf(t.file, "%s\n", line)
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func main() {
	upstream := flag.Int("upstream", 0, "port of the service behind")
	mode := flag.String("mode", "", "forward, exchange or static")
	pool := flag.Int("pool", 1, "connections in the pool")
	tokens := flag.String("tokens", "{}", "bearer token to tenant, as JSON")
	told := flag.String("truth", "", "file for the truth")
	flag.Parse()
	whose := map[string]string{}
	must(0, json.Unmarshal([]byte(*tokens), &whose))
	file := must(os.OpenFile(*told, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644))
	truth := truth{file: file, ordinals: map[int]int{}}

	certificate, key := os.Getenv("LAB_CERTIFICATE"), os.Getenv("LAB_KEY")
	scheme, behind := "http", &tls.Config{RootCAs: x509.NewCertPool()}
	if certificate != "" {
		scheme = "https"
		behind.RootCAs.AppendCertsFromPEM(must(os.ReadFile(certificate)))
	}
	// No HTTP/2.
	never := map[string]func(string, *tls.Conn) http.RoundTripper{}
	client := http.Client{Transport: &http.Transport{
		MaxConnsPerHost: *pool, MaxIdleConnsPerHost: *pool, TLSClientConfig: behind, TLSNextProto: never,
	}}

	answer := func(w http.ResponseWriter, r *http.Request) {
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		tenant := whose[token]
		if tenant == "" {
			http.Error(w, "{}", http.StatusUnauthorized)
			return
		}
		path := r.URL.Path
		switch *mode {
		case "static":
			token, path = static, "/api/v1"+path
		case "exchange":
			token, path = exchanged[tenant], "/api/v1"+path
		}
		trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
			truth.works(info.Conn.LocalAddr().(*net.TCPAddr).Port, tenant)
		}}
		url := fmt.Sprintf("%s://127.0.0.1:%d%s", scheme, *upstream, path)
		request := must(http.NewRequestWithContext(httptrace.WithClientTrace(r.Context(), trace), "GET", url, nil))
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := client.Do(request)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer response.Body.Close()
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(response.StatusCode)
		io.Copy(w, response.Body)
	}

	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	fmt.Printf("PORT %d\n", listener.Addr().(*net.TCPAddr).Port)
	server := http.Server{
		Handler: http.HandlerFunc(answer), TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	if certificate != "" {
		log.Fatal(server.ServeTLS(listener, certificate, key))
	}
	log.Fatal(server.Serve(listener))
}
