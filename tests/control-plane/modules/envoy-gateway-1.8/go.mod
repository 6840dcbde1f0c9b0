module keyward.test/envoy-gateway-1.8

go 1.26.0

require github.com/envoyproxy/gateway v1.8.0
