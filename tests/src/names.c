/* A name server for one test: UDP on port 53 of 127.0.0.1, until its parent ends.
 *
 * `names NAME=TURN[;TURN]...`: each turn is what one question for an IPv4 address is answered with, addresses with commas
 * between them; the last one stays. Prints each such question as it comes. There are no IPv6 addresses, and no other names. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/socket.h>

int main(int count, char **words) {
    unsigned char packet[1024];
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(53), .sin_addr = {htonl(INADDR_LOOPBACK)}}, from;
    int port = socket(AF_INET, SOCK_DGRAM, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (bind(port, (void *)&own, sizeof own)) return perror("bind"), 1;
    puts("listening");
    for (;;) {
        fflush(stdout);
        socklen_t size = sizeof from;
        ssize_t length = recvfrom(port, packet, 512, 0, (void *)&from, &size);
        if (length < 17) continue;
        /* RFC 1035, section 4.1: a header of twelve bytes, then labels, type and class of the one question. */
        char name[256] = "";
        ssize_t at = 12;
        while (at < length && packet[at] && at + packet[at] + 5 < length && strlen(name) + packet[at] < 250) {
            strncat(name, (char *)packet + at + 1, packet[at]);
            at += packet[at] + 1;
            if (packet[at]) strcat(name, ".");
        }
        int type = packet[at + 1] << 8 | packet[at + 2], answers = 0, known = 0;
        at += 5;
        for (int i = 1; i < count; i++) {
            size_t own = strcspn(words[i], "=");
            if (strncasecmp(words[i], name, own) || name[own]) continue;
            known = 1;
            if (type != 1) break;
            printf("%s\n", name);
            char *turn = words[i] + own + 1, *next = strchr(turn, ';'), *address = turn;
            for (;;) {
                char text[64] = "";
                size_t digits = strcspn(address, ",;");
                strncat(text, address, digits < 63 ? digits : 63);
                unsigned char record[16] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4};
                inet_pton(AF_INET, text, record + 12);
                memcpy(packet + at, record, 16);
                at += 16;
                answers++;
                if (address[digits] != ',') break;
                address += digits + 1;
            }
            if (next) memmove(turn, next + 1, strlen(next));
        }
        packet[2] = 0x84;
        packet[3] = known ? 0 : 3;
        packet[7] = answers;
        memset(packet + 8, 0, 4);
        sendto(port, packet, at, 0, (void *)&from, size);
    }
}
