// The rows of the comparison table: each a path, who takes part, the load, and the goal that netloom set itself.

import { caddy } from './peers/caddy.ts';
import { direct } from './peers/direct.ts';
import { dns2, dnsmasq, dnsName } from './peers/dns.ts';
import { haproxy } from './peers/haproxy.ts';
import { netloom } from './peers/netloom.ts';
import { nginx } from './peers/nginx.ts';
import { httpProxy, undiciProxy } from './peers/node-proxies.ts';
import type { Bed, Row, Running } from './lib/contender.ts';
import type { LoadPlan } from './lib/plan.ts';

type MakePlan = (running: Running, bed: Bed) => Partial<LoadPlan>;
const http: MakePlan = () => ({ protocol: 'http1', serverName: 'bench.example', connections: 32 });
const dns = (names: string[], queryType = 1): MakePlan => () => ({ protocol: 'dns-udp', names, queryType, connections: 4, streams: 16 });

export const rows: Row[] = [
  { name: 'http-keepalive', title: 'Ingress HTTP/1.1, kept connections, 19-byte answers', unit: 'request', goal: 'CPU <= 1.15 x haproxy, <= 1.1 x nginx, caddy >= 4 x, http-proxy >= 6 x', hasLatencyRun: true, contenders: [direct, netloom('ingress'), nginx, haproxy, caddy, undiciProxy, httpProxy], plan: http },
  { name: 'http-new', title: 'Ingress HTTP/1.1, a new connection per request', unit: 'connection', hasLatencyRun: false, contenders: [direct, netloom('ingress'), nginx, haproxy], plan: () => ({ ...http({} as Running, {} as Bed), requestsPerConnection: 1 }) },
  { name: 'http-1mb', title: 'Ingress HTTP/1.1, 1 MB answers', unit: 'request', goal: 'throughput >= 0.8 x nginx', hasLatencyRun: false, contenders: [direct, netloom('ingress'), nginx, haproxy], plan: () => ({ protocol: 'http1', serverName: 'bench.example', connections: 4 }) },
  { name: 'https-keepalive', title: 'Ingress HTTPS (TLS 1.3), kept connections', unit: 'request', hasLatencyRun: true, contenders: [netloom('ingress'), nginx, haproxy, caddy], plan: () => ({ protocol: 'http1', isTls: true, serverName: 'bench.example', connections: 32 }) },
  { name: 'https-handshake', title: 'Ingress HTTPS, a new handshake per request', unit: 'connection', hasLatencyRun: false, contenders: [netloom('ingress'), nginx, haproxy], plan: () => ({ protocol: 'http1', isTls: true, serverName: 'bench.example', connections: 16, requestsPerConnection: 1 }) },
  { name: 'h2', title: 'Ingress HTTP/2 over TLS, 4 connections x 8 streams', unit: 'request', hasLatencyRun: false, contenders: [netloom('ingress'), nginx, haproxy, caddy], plan: () => ({ protocol: 'http2', isTls: true, serverName: 'bench.example', connections: 4, streams: 8 }) },
  { name: 'http2-cleartext', title: 'Ingress HTTP/2 without TLS, 4 connections x 8 streams', unit: 'request', hasLatencyRun: false, contenders: [netloom('ingress'), nginx, haproxy], plan: () => ({ protocol: 'http2', serverName: 'bench.example', connections: 4, streams: 8 }) },
  { name: 'grpc', title: 'Ingress gRPC unary, HTTP/2 without TLS to both sides, 4 connections x 8 streams', unit: 'request', hasLatencyRun: false, contenders: [direct, netloom('ingress'), nginx, haproxy], plan: () => ({ protocol: 'http2', serverName: 'bench.example', connections: 4, streams: 8, method: 'POST', path: '/bench.Echo/Say', headers: { 'content-type': 'application/grpc', te: 'trailers' }, body: '\0\0\0\0\x05\n\x03abc' }) },
  { name: 'websocket', title: 'Ingress WebSocket echo', unit: 'exchange', hasLatencyRun: false, contenders: [direct, netloom('ingress'), nginx, haproxy], plan: () => ({ protocol: 'websocket', serverName: 'bench.example', connections: 32, path: '/ws' }) },
  { name: 'tcp-exchange', title: 'ClusterIP TCP in userspace, kept connections, 64-byte echo', unit: 'exchange', goal: 'CPU <= 1.3 x haproxy', hasLatencyRun: true, contenders: [direct, netloom('clusterip'), nginx, haproxy], plan: () => ({ protocol: 'tcp', connections: 32, payload: 'x'.repeat(64) }) },
  { name: 'tcp-connect', title: 'ClusterIP TCP in userspace, a new connection per exchange', unit: 'connection', goal: 'CPU <= 1.7 x haproxy', hasLatencyRun: false, contenders: [direct, netloom('clusterip'), nginx, haproxy], plan: () => ({ protocol: 'tcp', connections: 32, payload: 'x'.repeat(64), requestsPerConnection: 1 }) },
  { name: 'dns-a', title: 'DNS A of a ClusterIP, UDP', unit: 'query', goal: 'CPU <= 2 x dnsmasq, <= 1/4 of dns2', hasLatencyRun: true, contenders: [netloom('dns'), dnsmasq, dns2], plan: dns([dnsName]) },
  { name: 'dns-headless', title: 'DNS A of a headless Service of 3, UDP', unit: 'query', hasLatencyRun: false, contenders: [netloom('dns'), dnsmasq, dns2], plan: dns(['direct.bench.svc.cluster.local']) },
  { name: 'dns-nxdomain', title: 'DNS NXDOMAIN, UDP', unit: 'query', hasLatencyRun: false, contenders: [netloom('dns'), dnsmasq, dns2], plan: dns(['none.bench.svc.cluster.local']) },
  { name: 'dns-srv', title: 'DNS SRV of a named port, UDP', unit: 'query', hasLatencyRun: false, contenders: [netloom('dns'), dnsmasq], plan: dns([`_http._tcp.${dnsName}`], 33) },
  { name: 'dns-tcp', title: 'DNS A over TCP, pipelined', unit: 'query', hasLatencyRun: false, contenders: [netloom('dns')], plan: () => ({ protocol: 'dns-tcp', names: [dnsName], connections: 4, streams: 16 }) },
];
