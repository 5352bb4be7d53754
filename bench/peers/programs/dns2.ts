// dns2's createServer with a handler as its documentation shows it: argv = port.

import dns2 from 'dns2';

const { Packet } = dns2 as unknown as { Packet: { createResponseFromRequest(request: unknown): { answers: unknown[]; header: { rcode: number } }; TYPE: Record<string, number>; CLASS: Record<string, number> } };
const name = 'web.bench.svc.cluster.local';
const server = (dns2 as unknown as { createServer(options: unknown): { listen(options: unknown): Promise<unknown> } }).createServer({
  udp: true,
  handle(request: { questions: { name: string; type: number }[] }, send: (response: unknown) => void) {
    const response = Packet.createResponseFromRequest(request);
    const question = request.questions[0];
    if (question?.name === name) response.answers.push({ name, type: Packet.TYPE['A'], class: Packet.CLASS['IN'], ttl: 5, address: '10.96.1.1' });
    else if (question?.name === 'direct.bench.svc.cluster.local') for (let index = 2; index < 5; index++) response.answers.push({ name: question.name, type: Packet.TYPE['A'], class: Packet.CLASS['IN'], ttl: 5, address: `10.244.0.${index}` });
    else response.header.rcode = 3;
    send(response);
  },
});
await server.listen({ udp: { port: Number(process.argv[2]), address: '127.0.0.1', type: 'udp4' } });
