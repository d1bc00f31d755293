/* What llama.cpp 0.5.0 converts and we do not, with the reason: architectures of text models in
 * conversion/__init__.py that have no table here. It says to somebody why, and what to do. */
#include "model/arch_int.h"

#include <string.h>

#include "base/banned.h"

struct reason {
    const char *why, *names;
};

static const struct reason reasons[] = {
    {"its blocks of recurrent or linear attention are not in our tables",
     "BailingMoeV3ForCausalLM|BambaForCausalLM|FalconH1ForCausalLM|GraniteMoeHybridForCausalLM|"
     "JambaForCausalLM|KimiK3ForConditionalGeneration|KimiLinearForCausalLM|KimiLinearModel|"
     "LFM2ForCausalLM|Lfm2BidirectionalModel|Lfm2ForCausalLM|Lfm2Model|Lfm2MoeForCausalLM|"
     "Mamba2ForCausalLM|MambaLMHeadModel|MiniMaxM1ForCausalLM|MiniMaxText01ForCausalLM|"
     "NemotronHForCausalLM|NemotronHPuzzleForCausalLM|PLaMo2ForCausalLM|Plamo2ForCausalLM|"
     "Qwen3NextForCausalLM|Qwen3_5ForCausalLM|Qwen3_5MoeForCausalLM|Qwen4ExpForCausalLM|"
     "RWKV6Qwen2ForCausalLM|RWKV7ForCausalLM|Rwkv6ForCausalLM|Rwkv7ForCausalLM|"
     "RwkvHybridForCausalLM"},
    {"it is an encoder; models that generate text are converted",
     "BertForMaskedLM|BertForSequenceClassification|BertModel|CamembertModel|"
     "DistilBertForMaskedLM|DistilBertForSequenceClassification|DistilBertModel|EuroBertModel|"
     "Gemma3TextModel|JinaBertForMaskedLM|JinaBertModel|JinaEmbeddingsV5Model|"
     "LlamaBidirectionalModel|MT5ForConditionalGeneration|ModernBertForMaskedLM|"
     "ModernBertForSequenceClassification|ModernBertModel|NeoBERT|"
     "NeoBERTForSequenceClassification|NeoBERTLMHead|NomicBertModel|"
     "RobertaForSequenceClassification|RobertaModel|T5EncoderModel|T5ForConditionalGeneration|"
     "T5WithLMHeadModel|UMT5ForConditionalGeneration|UMT5Model|"
     "XLMRobertaForSequenceClassification|XLMRobertaModel"},
    {"it sees or hears; models of text alone are converted",
     "AudioFlamingo3ForConditionalGeneration|ChameleonForCausalLM|"
     "ChameleonForConditionalGeneration|CogVLMForCausalLM|DeepseekOCRForCausalLM|"
     "DotsOCRForCausalLM|Dots3NoteForConditionalGeneration|Exaone4_5_ForConditionalGeneration|"
     "Gemma3nForConditionalGeneration|Gemma4ForConditionalGeneration|"
     "Gemma4UnifiedForConditionalGeneration|Glm4vForConditionalGeneration|"
     "Glm4vMoeForConditionalGeneration|GlmOcrForConditionalGeneration|"
     "GraniteSpeechForConditionalGeneration|GraniteSpeechPlusForConditionalGeneration|"
     "HunYuanVLForConditionalGeneration|JanusForConditionalGeneration|"
     "KimiK25ForConditionalGeneration|KimiVLForConditionalGeneration|"
     "Llama4ForConditionalGeneration|LlavaForConditionalGeneration|LlavaStableLMEpochForCausalLM|"
     "MiniCPMV4_6ForConditionalGeneration|MiniMaxM3SparseForConditionalGeneration|"
     "Mistral3ForConditionalGeneration|MuseGlimmerForConditionalGeneration|"
     "PaddleOCRVLForConditionalGeneration|Phi4ForCausalLMV|Qwen2AudioForConditionalGeneration|"
     "Qwen2VLForConditionalGeneration|Qwen2VLModel|Qwen2_5OmniModel|"
     "Qwen2_5_VLForConditionalGeneration|Qwen3ASRForConditionalGeneration|"
     "Qwen3OmniMoeForConditionalGeneration|Qwen3VLForConditionalGeneration|"
     "Qwen3VLMoeForConditionalGeneration|Qwen3_5ForConditionalGeneration|"
     "Qwen3_5MoeForConditionalGeneration|Qwen4ExpForConditionalGeneration|"
     "Sarashina2VisionForCausalLM|Step3p7ForConditionalGeneration|StepVLForConditionalGeneration|"
     "UltravoxModel|UnlimitedOCRForCausalLM|VLlama3ForCausalLM|VoxtralForConditionalGeneration|"
     "YoutuVLForConditionalGeneration"},
    {"it drafts for another model and does not run alone",
     "DFlash2DraftModel|DFlashDraftModel|DSparkDraftModel|DSparkSpeculator|DeepseekV4DSparkModel|"
     "Eagle3DraftModel|Eagle3LlamaForCausalLM|Eagle3Speculator|Gemma4AssistantForCausalLM|"
     "Gemma4DSparkModel|Gemma4UnifiedAssistantForCausalLM|Lfm2DSparkDraftModel|LingDSparkModel|"
     "LlamaForCausalLMEagle3|MuseGlimmerAssistantModel|Qwen3DSparkModel"},
    {"it makes sound, not text",
     "Lfm25AudioTokenizer|PocketTTSModel|Qwen3TTSForConditionalGeneration|WavTokenizerDec"},
    {"it generates by diffusion, to which perplexity does not apply",
     "DreamModel|LLaDAMoEModel|LLaDAMoEModelLM|LLaDAModelLM|RND1"},
    {"its tensors are not in our tables",
     "AfmoeForCausalLM|ApertusForCausalLM|ArcticForCausalLM|BaiChuanForCausalLM|"
     "BaichuanForCausalLM|BailingMoeForCausalLM|BailingMoeV2ForCausalLM|BitNetForCausalLM|"
     "BitnetForCausalLM|ChatGLMForConditionalGeneration|ChatGLMModel|CodeShellForCausalLM|"
     "Cohere2MoeForCausalLM|DbrxForCausalLM|DeciLMForCausalLM|"
     "DeepseekV32ForCausalLM|DeepseekV4ForCausalLM|Dots1ForCausalLM|Dots3NoteForCausalLM|"
     "Dots3NoteTextForCausalLM|Ernie4_5ForCausalLM|Ernie4_5_ForCausalLM|"
     "Ernie4_5_MoeForCausalLM|ExaoneMoEForCausalLM|ExaoneMoeForCausalLM|"
     "Gemma3nForCausalLM|Gemma4ForCausalLM|Glm4MoeLiteForCausalLM|"
     "GlmForCausalLM|GlmMoeDsaForCausalLM|GPTRefactForCausalLM|GptOssForCausalLM|"
     "GraniteMoeSWAForCausalLM|GraniteSWAForCausalLM|GraniteSwitchForCausalLM|Grok1ForCausalLM|"
     "GrokForCausalLM|GroveMoeForCausalLM|HYV3ForCausalLM|HYV4ForCausalLM|HrmTextForCausalLM|"
     "HunYuanDenseV1ForCausalLM|HunYuanMoEV1ForCausalLM|IQuestCoderForCausalLM|"
     "InternLM3ForCausalLM|JAISLMHeadModel|Jais2ForCausalLM|KORMoForCausalLM|LLaMAForCausalLM|"
     "LagunaForCausalLM|Llama4ForCausalLM|LlamaModel|MaincoderForCausalLM|MapleForCausalLM|"
     "MellumForCausalLM|MiMoV2FlashForCausalLM|MiMoV2ForCausalLM|MiniCPM3ForCausalLM|"
     "MiniMaxM2ForCausalLM|MiniMaxM3SparseForCausalLM|Ministral3ForCausalLM|NanbeigeForCausalLM|"
     "OrionForCausalLM|PLMForCausalLM|PLaMo3ForCausalLM|"
     "PanguEmbeddedForCausalLM|PhiMoEForCausalLM|Plamo3ForCausalLM|PlamoForCausalLM|"
     "QWenLMHeadModel|Qwen2Model|Qwen3Model|RuGPT3XLForCausalLM|SarvamMoEForCausalLM|"
     "SmallThinkerForCausalLM|SolarOpenForCausalLM|"
     "Spark2_5ForCausalLM|Step3p5ForCausalLM|TalkieForCausalLM|XverseForCausalLM|"
     "YoutuForCausalLM"},
};

const char *arch_reason(const char *hf_name)
{
    size_t n = strlen(hf_name);
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        for (const char *s = reasons[i].names; *s; s += strcspn(s, "|"), s += *s == '|')
            if (strcspn(s, "|") == n && memcmp(s, hf_name, n) == 0)
                return reasons[i].why;
    return NULL;
}
