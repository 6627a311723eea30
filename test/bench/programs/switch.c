// An interpreter of bytecode for a stack machine, dispatched by a switch: indirect branches and a little state.
#include "bench.h"

const char bench_name[] = "switch";
const u32 bench_iterations = 25;

enum op { PUSH, LOAD, STORE, ADD, SUB, MUL, AND, XOR, SHR, DUP, SWAP, LESS, JUMP, JUMP_IF_NOT, CALL, RETURN, HALT };

static u8 code[128];
static u32 size;

static void emit(enum op op) { code[size++] = (u8)op; }

// Returns where the operand is, to be filled in when it is a jump.
static u32 emit_with(enum op op, u32 operand) {
  emit(op);
  code[size] = (u8)operand;
  return size++;
}

// for (i = 0; i < 20000; i++) { t = step(t, i); s ^= t >> 3; }   step(a, b) = (a * 31 + b) % 2^16
static void compile(void) {
  size = 0;
  for (u32 v = 0; v < 3; v++) {
    emit_with(PUSH, v * 7);
    emit_with(STORE, v);
  }
  u32 loop = size;
  emit_with(LOAD, 0);
  emit_with(PUSH, 200);
  emit_with(PUSH, 100);
  emit(MUL);
  emit(LESS);
  u32 leave = emit_with(JUMP_IF_NOT, 0);
  emit_with(LOAD, 1);
  emit_with(LOAD, 0);
  u32 call = emit_with(CALL, 0);
  emit(DUP);
  emit_with(STORE, 1);
  emit_with(PUSH, 3);
  emit(SHR);
  emit_with(LOAD, 2);
  emit(XOR);
  emit_with(STORE, 2);
  emit_with(LOAD, 0);
  emit_with(PUSH, 1);
  emit(ADD);
  emit_with(STORE, 0);
  emit_with(JUMP, loop);
  code[leave] = (u8)size;
  emit(HALT);
  code[call] = (u8)size;
  emit(SWAP);
  emit_with(PUSH, 31);
  emit(MUL);
  emit(ADD);
  emit_with(PUSH, 255);
  emit(DUP);
  emit_with(PUSH, 1);
  emit(ADD);
  emit(MUL);
  emit_with(PUSH, 255);
  emit(ADD);
  emit(AND);
  emit(RETURN);
}

__attribute__((noinline)) static u32 run(const u8 *start) {
  u32 stack[32], variables[4] = {0};
  u32 *sp = stack;
  const u8 *calls[8];
  u32 depth = 0;
  const u8 *pc = start;
  for (;;) {
    switch ((enum op)*pc++) {
    case PUSH: *sp++ = *pc++; break;
    case LOAD: *sp++ = variables[*pc++ & 3]; break;
    case STORE: variables[*pc++ & 3] = *--sp; break;
    case ADD: sp--; sp[-1] += sp[0]; break;
    case SUB: sp--; sp[-1] -= sp[0]; break;
    case MUL: sp--; sp[-1] *= sp[0]; break;
    case AND: sp--; sp[-1] &= sp[0]; break;
    case XOR: sp--; sp[-1] ^= sp[0]; break;
    case SHR: sp--; sp[-1] >>= sp[0] & 31; break;
    case DUP: *sp = sp[-1]; sp++; break;
    case SWAP: {
      u32 top = sp[-1];
      sp[-1] = sp[-2];
      sp[-2] = top;
      break;
    }
    case LESS: sp--; sp[-1] = sp[-1] < sp[0]; break;
    case JUMP: pc = start + *pc; break;
    case JUMP_IF_NOT: pc = *--sp ? pc + 1 : start + *pc; break;
    case CALL: calls[depth++ & 7] = pc + 1; pc = start + *pc; break;
    case RETURN: pc = calls[--depth & 7]; break;
    case HALT: return variables[2];
    }
  }
}

u32 bench(u32 iterations) {
  compile();
  u32 sum = 0;
  for (u32 n = 0; n < iterations; n++) sum = mix(sum, run(code));
  return sum;
}
