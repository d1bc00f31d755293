/* What llama.cpp 0.5.0 converts and we do not, with the reason: the names in conversion/__init__.py
 * that have no table here. `inspect --architectures` lists them, and a model of one of them is
 * refused with its reason. tests/interop/test_architectures.py compares the list with theirs. */
#include "model/arch_int.h"

#include <string.h>

#include "base/banned.h"

/* names: "HUGGING FACE:GGUF|..."; the latter is what libllama knows the model by ("clip": as the
 * eye or ear of another model). */
struct reason {
    const char *why, *names;
};

static const struct reason reasons[] = {
    {"Sintra has no table for its blocks of recurrent or linear attention yet",
     "BailingMoeV3ForCausalLM:bailingmoe3|BambaForCausalLM:granitehybrid|"
     "FalconH1ForCausalLM:falcon-h1|GraniteMoeHybridForCausalLM:granitehybrid|"
     "JambaForCausalLM:jamba|KimiK3ForConditionalGeneration:kimi-k3|"
     "KimiLinearForCausalLM:kimi-linear|KimiLinearModel:kimi-linear|Lfm2BidirectionalModel:lfm2|"
     "Lfm2Model:lfm2|Lfm2MoeForCausalLM:lfm2moe|"
     "MambaLMHeadModel:mamba|MiniMaxM1ForCausalLM:minimax-01|"
     "MiniMaxText01ForCausalLM:minimax-01|NemotronHForCausalLM:nemotron_h|"
     "NemotronHPuzzleForCausalLM:nemotron_h_moe|PLaMo2ForCausalLM:plamo2|"
     "Plamo2ForCausalLM:plamo2|Qwen3_5ForCausalLM:qwen35|Qwen3_5MoeForCausalLM:qwen35moe|"
     "Qwen3NextForCausalLM:qwen3next|Qwen4ExpForCausalLM:qwen4exp|Rwkv6ForCausalLM:rwkv6|"
     "RWKV6Qwen2ForCausalLM:rwkv6qwen2|RWKV7ForCausalLM:rwkv7|Rwkv7ForCausalLM:rwkv7|"
     "RwkvHybridForCausalLM:arwkv7"},
    {"llama.cpp leaves out its pooler, so that libllama would compute other scores",
     "BertForSequenceClassification:bert"},
    {"llama.cpp gives it the positions and the tokenizer of BERT, which are not its own",
     "CamembertModel:bert"},
    {"its head has ReLU, libllama computes tanh, so that the scores would be others",
     "DistilBertForSequenceClassification:bert"},
    {"Sintra has no table for its blocks yet; of encoders BERT, DistilBERT, RoBERTa, "
     "XLM-RoBERTa and Nomic BERT have one",
     "EuroBertModel:eurobert|Gemma3TextModel:gemma-embedding|JinaBertForMaskedLM:jina-bert-v2|"
     "JinaBertModel:jina-bert-v2|JinaEmbeddingsV5Model:eurobert|"
     "LlamaBidirectionalModel:llama-embed|ModernBertForMaskedLM:modern-bert|"
     "ModernBertForSequenceClassification:modern-bert|ModernBertModel:modern-bert|"
     "NeoBERT:neo-bert|NeoBERTForSequenceClassification:neo-bert|NeoBERTLMHead:neo-bert"},
    {"an encoder with a decoder (T5) is not in Sintra's tables",
     "MT5ForConditionalGeneration:t5|T5EncoderModel:t5encoder|T5ForConditionalGeneration:t5|"
     "T5WithLMHeadModel:t5|UMT5ForConditionalGeneration:t5|UMT5Model:t5"},
    {"it sees or hears, and Sintra converts models of text alone",
     "AudioFlamingo3ForConditionalGeneration:qwen2|ChameleonForCausalLM:chameleon|"
     "ChameleonForConditionalGeneration:chameleon|CogVLMForCausalLM:cogvlm|"
     "DeepseekOCR2ForCausalLM:clip|DeepseekOCRForCausalLM:deepseek2|"
     "Dots3NoteForConditionalGeneration:dots3note|DotsOCRForCausalLM:qwen2|"
     "Exaone4_5_ForConditionalGeneration:exaone4|Gemma3nForConditionalGeneration:gemma3n|"
     "Gemma4ForConditionalGeneration:gemma4|Gemma4UnifiedForConditionalGeneration:gemma4|"
     "Glm4vForConditionalGeneration:glm4|Glm4vMoeForConditionalGeneration:glm4moe|"
     "Glm5vForConditionalGeneration:clip|GlmasrModel:clip|GlmOcrForConditionalGeneration:glm4|"
     "Granite4VisionForConditionalGeneration:clip|GraniteSpeechForConditionalGeneration:granite|"
     "GraniteSpeechPlusForConditionalGeneration:granite|"
     "HunYuanVLForConditionalGeneration:hunyuan_vl|Idefics3ForConditionalGeneration:clip|"
     "InternVisionModel:clip|JanusForConditionalGeneration:llama|"
     "KimiK25ForConditionalGeneration:deepseek2|KimiVLForConditionalGeneration:deepseek2|"
     "Lfm2AudioForConditionalGeneration:clip|Lfm2VlForConditionalGeneration:clip|"
     "LightOnOCRForConditionalGeneration:clip|Llama4ForConditionalGeneration:llama4|"
     "LlavaForConditionalGeneration:llama|LlavaStableLMEpochForCausalLM:stablelm|"
     "MERaLiON2ForConditionalGeneration:clip|MiniCPMV4_6ForConditionalGeneration:qwen35|"
     "MiniMaxM3SparseForConditionalGeneration:minimax-m3|"
     "Mistral3ForConditionalGeneration:mistral3|"
     "MuseGlimmerForConditionalGeneration:muse-glimmer|NemotronH_Nano_VL_V2:clip|"
     "PaddleOCRVisionModel:clip|PaddleOCRVLForConditionalGeneration:paddleocr|"
     "Phi4ForCausalLMV:phi3|Qwen2_5_VLForConditionalGeneration:qwen2vl|Qwen2_5OmniModel:qwen2vl|"
     "Qwen2AudioForConditionalGeneration:qwen2|Qwen2VLForConditionalGeneration:qwen2vl|"
     "Qwen2VLModel:qwen2vl|Qwen3_5ForConditionalGeneration:qwen35|"
     "Qwen3_5MoeForConditionalGeneration:qwen35moe|Qwen3ASRForConditionalGeneration:qwen3vl|"
     "Qwen3OmniMoeForConditionalGeneration:qwen3vlmoe|Qwen3VLForConditionalGeneration:qwen3vl|"
     "Qwen3VLMoeForConditionalGeneration:qwen3vlmoe|Qwen4ExpForConditionalGeneration:qwen4exp|"
     "RADIOModel:clip|Sarashina2VisionForCausalLM:llama|SmolVLMForConditionalGeneration:clip|"
     "Step3p7ForConditionalGeneration:step35|StepVLForConditionalGeneration:qwen3|"
     "UltravoxModel:llama|UnlimitedOCRForCausalLM:deepseek2|VLlama3ForCausalLM:llama|"
     "VoxtralForConditionalGeneration:llama|YoutuVLForConditionalGeneration:deepseek2"},
    {"it drafts for another model and does not run alone",
     "DeepseekV4DSparkModel:dflash|DFlash2DraftModel:dflash|DFlashDraftModel:dflash|"
     "DSparkDraftModel:dflash|DSparkSpeculator:dflash|Eagle3DraftModel:llama|"
     "Eagle3LlamaForCausalLM:llama|Eagle3Speculator:llama|"
     "Gemma4AssistantForCausalLM:gemma4-assistant|Gemma4DSparkModel:dflash|"
     "Gemma4UnifiedAssistantForCausalLM:gemma4-assistant|Lfm2DSparkDraftModel:dflash|"
     "LingDSparkModel:dflash|LlamaForCausalLMEagle3:llama|MuseGlimmerAssistantModel:dflash|"
     "Qwen3DSparkModel:dflash"},
    {"it makes sound, not text",
     "Lfm25AudioTokenizer:lfm2|PocketTTSModel:pockettts|"
     "Qwen3TTSForConditionalGeneration:qwen3tts|WavTokenizerDec:wavtokenizer-dec"},
    {"it generates by diffusion, to which perplexity does not apply",
     "DreamModel:dream|LLaDAModelLM:llada|LLaDAMoEModel:llada-moe|LLaDAMoEModelLM:llada-moe|"
     "RND1:rnd1"},
    {"Sintra has no table for its tensors yet",
     "AfmoeForCausalLM:afmoe|ApertusForCausalLM:apertus|ArcticForCausalLM:arctic|"
     "BaiChuanForCausalLM:baichuan|BaichuanForCausalLM:baichuan|"
     "BailingMoeForCausalLM:bailingmoe|BailingMoeV2ForCausalLM:bailingmoe2|"
     "BitNetForCausalLM:bitnet|BitnetForCausalLM:bitnet|CodeShellForCausalLM:codeshell|"
     "Cohere2MoeForCausalLM:cohere2moe|DbrxForCausalLM:dbrx|DeciLMForCausalLM:deci|"
     "DeepseekV32ForCausalLM:deepseek32|DeepseekV4ForCausalLM:deepseek4|Dots1ForCausalLM:dots1|"
     "Dots3NoteForCausalLM:dots3note|Dots3NoteTextForCausalLM:dots3note|"
     "Ernie4_5_MoeForCausalLM:ernie4_5-moe|"
     "ExaoneMoEForCausalLM:exaone-moe|"
     "ExaoneMoeForCausalLM:exaone-moe|Gemma3nForCausalLM:gemma3n|Gemma4ForCausalLM:gemma4|"
     "Glm4MoeLiteForCausalLM:deepseek2|GlmMoeDsaForCausalLM:glm-dsa|"
     "GPTRefactForCausalLM:refact|GraniteMoeSWAForCausalLM:granite_swa|"
     "GraniteSWAForCausalLM:granite_swa|GraniteSwitchForCausalLM:graniteswitch|"
     "Grok1ForCausalLM:grok|GrokForCausalLM:grok|GroveMoeForCausalLM:grovemoe|"
     "HrmTextForCausalLM:hrm_text|HunYuanDenseV1ForCausalLM:hunyuan-dense|"
     "HunYuanMoEV1ForCausalLM:hunyuan-moe|HYV3ForCausalLM:hy_v3|HYV4ForCausalLM:hy_v4|"
     "IQuestCoderForCausalLM:llama|Jais2ForCausalLM:jais2|"
     "JAISLMHeadModel:jais|KORMoForCausalLM:qwen2|LagunaForCausalLM:laguna|"
     "Llama4ForCausalLM:llama4|LLaMAForCausalLM:llama|LlamaModel:llama|"
     "MaincoderForCausalLM:maincoder|MapleForCausalLM:maple|MellumForCausalLM:mellum|"
     "MiMoV2FlashForCausalLM:mimo2|MiMoV2ForCausalLM:mimo2|MiniCPM3ForCausalLM:minicpm3|"
     "MiniMaxM2ForCausalLM:minimax-m2|MiniMaxM3SparseForCausalLM:minimax-m3|"
     "Ministral3ForCausalLM:mistral3|modeling_grove_moe.GroveMoeForCausalLM:grovemoe|"
     "modeling_sarvam_moe.SarvamMoEForCausalLM:bailingmoe2|NanbeigeForCausalLM:nanbeige|"
     "OrionForCausalLM:orion|PanguEmbeddedForCausalLM:pangu-embedded|PhiMoEForCausalLM:phimoe|"
     "PLaMo3ForCausalLM:plamo3|Plamo3ForCausalLM:plamo3|PlamoForCausalLM:plamo|"
     "PLMForCausalLM:plm|Qwen2Model:qwen2|Qwen3Model:qwen3|QWenLMHeadModel:qwen|"
     "RuGPT3XLForCausalLM:gpt2|SarvamMoEForCausalLM:bailingmoe2|"
     "SmallThinkerForCausalLM:smallthinker|SolarOpenForCausalLM:glm4moe|"
     "Spark2_5ForCausalLM:spark2_5|Step3p5ForCausalLM:step35|TalkieForCausalLM:talkie|"
     "XverseForCausalLM:xverse|YoutuForCausalLM:deepseek2"},
};

/* One entry into `u`; where the next one begins. */
static const char *read_entry(const char *s, struct arch_unsupported *u)
{
    u->name = s;
    u->name_len = strcspn(s, ":");
    u->gguf = s + u->name_len + 1;
    u->gguf_len = strcspn(u->gguf, "|");
    s = u->gguf + u->gguf_len;
    return s + (*s == '|');
}

bool arch_unsupported_at(size_t i, struct arch_unsupported *u)
{
    for (size_t k = 0; k < sizeof reasons / sizeof *reasons; k++) {
        u->why = reasons[k].why;
        for (const char *s = reasons[k].names; *s;) {
            s = read_entry(s, u);
            if (i-- == 0)
                return true;
        }
    }
    return false;
}

bool arch_unsupported_find(const char *hf_name, struct arch_unsupported *u)
{
    size_t n = strlen(hf_name);
    for (size_t i = 0; arch_unsupported_at(i, u); i++)
        if (u->name_len == n && memcmp(u->name, hf_name, n) == 0)
            return true;
    return false;
}
